// Multi-layer perceptrons: forward and backward, one network at a time.
#pragma once
#include "product.h"

constexpr int MAX_LAYERS = 8;

struct Network {                  // the same in __init__.py
  int32_t layers, relu;           // relu: 1, or 0 for tanh
  int32_t sizes[MAX_LAYERS + 1];  // inputs, hidden units, outputs
  int64_t weight_step[MAX_LAYERS],
      bias_step[MAX_LAYERS];                           // floats from one network's parameters to the next's
  const float *weight[MAX_LAYERS], *bias[MAX_LAYERS];  // of the first network: (in, out) and (out)
  const float* w(int layer, long which) const { return weight[layer] + which * weight_step[layer]; }
  const float* b(int layer, long which) const { return bias[layer] + which * bias_step[layer]; }
  long hidden() const {  // units of all hidden layers
    long sum = 0;
    for (int l = 1; l < layers; l++) sum += sizes[l];
    return sum;
  }
  long widest() const {
    long most = 0;
    for (int l = 0; l <= layers; l++) most = sizes[l] > most ? sizes[l] : most;
    return most;
  }
  long parameters() const {
    long sum = 0;
    for (int l = 0; l < layers; l++) sum += (sizes[l] + 1) * sizes[l + 1];
    return sum;
  }
  void place(const float* row) {  // read one network from a row of parameters: weight and bias of each layer
    for (int l = 0; l < layers; l++) {
      weight[l] = row, bias[l] = row + sizes[l] * sizes[l + 1];
      row = bias[l] + sizes[l + 1];
    }
  }
  long space(long rows) const {  // floats of the arena for one pass in either direction
    // Two gradients, the transposed gradient of a narrow layer, the rows that are taken and their gradient, and
    // one product: its depth is `rows` for the gradient of weights, else at most `w`.
    long w = widest(), one_product = larger(product_space(rows, w), product_space(w, rows));
    return 3 * Arena::padded(rows * w) + Arena::padded(w * LANES) + Arena::padded(2 * rows) + one_product;
  }
};

// Apply f to n numbers in place, a vector at a time
template <class F>
inline void each(long n, float* x, F f) {
  long i = 0;
  for (; i + LANES <= n; i += LANES) store(x + i, computed(f(load(x + i))));
  if (i < n) {
    float last[LANES] = {};
    for (long k = i; k < n; k++) last[k - i] = x[k];
    store(last, f(load(last)));
    for (long k = i; k < n; k++) x[k] = last[k - i];
  }
}

// x (rows, in) -> out (rows, out); `hidden` receives the output of each hidden layer, (rows, units) one after
// the other
inline void forward(const Network& net, long which, long rows, const float* x, float* hidden, float* out,
                    Arena arena) {
  for (int l = 0; l < net.layers; l++) {
    long n_in = net.sizes[l], n_out = net.sizes[l + 1];
    float* y = l + 1 < net.layers ? hidden : out;
    product(rows, n_out, n_in, {x, n_in, 1}, {net.w(l, which), n_out, 1}, net.b(l, which), false, y, n_out,
            arena);
    if (l + 1 == net.layers) return;
    if (net.relu) each(rows * n_out, y, [](Vec v) { return maximum(Vec{}, v); });
    else each(rows * n_out, y, [](Vec v) { return tanh(v); });
    x = y, hidden += rows * n_out;
  }
}

// Multiply the gradient d (rows, n) by the slope of the activation y
inline void slope(bool relu, long n, float* d, const float* y) {
  long i = 0;
  for (; i + LANES <= n; i += LANES) {
    Vec slope = load(y + i), down = load(d + i);
    store(d + i, computed(relu ? (slope > 0.0f ? down : Vec{}) : down * (1.0f - slope * slope)));
  }
  for (; i < n; i++) d[i] = relu ? (y[i] > 0.0f ? d[i] : 0.0f) : d[i] * (1.0f - y[i] * y[i]);
}

// sum (n) += the sum of the rows of d (rows, n), first to last
inline void add_rows(long rows, long n, const float* d, float* sum) {
  for (long r = 0; r < rows; r++) {
    long j = 0;
    for (; j + LANES <= n; j += LANES) store(sum + j, load(sum + j) + load(d + r * n + j));
    for (; j < n; j++) sum[j] += d[r * n + j];
  }
}

// Add the gradient of the parameters to `grad` (in, out), (out), ... of each layer, unless it is null, and
// write the gradient of x (rows, in) to `x_grad`, unless it is null. `out_grad` (rows, out) is the gradient
// of the output. For x alone, rows whose output has no gradient are left out: each of SAC's two critics has
// the smaller value in about half of the rows.
inline void backward(const Network& net, long which, long rows, const float* x, const float* hidden,
                     const float* out_grad, float* grad, float* x_grad, Arena arena) {
  long widest = net.widest(), outputs = net.sizes[net.layers];
  float* deltas[2] = {arena.take(rows * widest), arena.take(rows * widest)};
  float* transposed = arena.take(widest * LANES);
  hidden += rows * net.hidden();
  const float* d = out_grad;
  int64_t* taken = (int64_t*)arena.take(2 * rows);  // the rows that are taken
  long all = rows;
  if (grad) {
    grad += net.parameters();
    for (long r = 0; r < rows; r++) taken[r] = r;
  } else {
    float* packed = arena.take(rows * outputs);
    rows = 0;
    for (long r = 0; r < all; r++) {
      bool none = true;
      for (long k = 0; k < outputs; k++) {
        packed[rows * outputs + k] = out_grad[r * outputs + k];
        none = none && out_grad[r * outputs + k] == 0;
      }
      if (!none) taken[rows++] = r;
    }
    d = packed;
  }
  for (int l = net.layers - 1; l >= 0; l--) {
    long n_in = net.sizes[l], n_out = net.sizes[l + 1];
    hidden -= l ? all * n_in : 0;
    const float* y = l ? hidden : x;  // the input of this layer
    if (grad) {
      grad -= n_out;
      add_rows(rows, n_out, d, grad);
      grad -= n_in * n_out;
      if (n_out < LANES && n_in > n_out) {  // few outputs: the transposed product fills its vectors
        for (long j = 0; j < n_out; j++)
          for (long i = 0; i < n_in; i++) transposed[j * n_in + i] = grad[i * n_out + j];
        product(n_out, n_in, rows, {d, 1, n_out}, {y, n_in, 1}, nullptr, true, transposed, n_in, arena);
        for (long j = 0; j < n_out; j++)
          for (long i = 0; i < n_in; i++) grad[i * n_out + j] = transposed[j * n_in + i];
      } else {
        product(n_in, n_out, rows, {y, 1, n_in}, {d, n_out, 1}, nullptr, true, grad, n_out, arena);
      }
    }
    if (!l && !x_grad) return;
    float* next = deltas[l % 2];
    product(rows, n_in, n_out, {d, n_out, 1}, {net.w(l, which), 1, n_out}, nullptr, false, next, n_in, arena);
    if (l)
      for (long r = 0; r < rows; r++) slope(net.relu, n_in, next + r * n_in, y + taken[r] * n_in);
    d = next;
  }
  long n_in = net.sizes[0];
  __builtin_memset(x_grad, 0, sizeof(float) * all * n_in);
  for (long r = 0; r < rows; r++)
    __builtin_memcpy(x_grad + taken[r] * n_in, d + r * n_in, sizeof(float) * n_in);
}
