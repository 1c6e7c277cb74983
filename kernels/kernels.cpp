// The functions that Python calls, see __init__.py. Arrays are float32, with the seed axis first, unless
// said. A function returns 1 if there is not enough memory, else 0.
#include "ppo.h"

thread_local char* Arena::block = nullptr;
thread_local long Arena::size = 0;

extern "C" {

// x (N, rows, in) -> out (N, rows, out) of N networks; hidden (N, rows * units) receives the hidden units
int32_t mlp_forward(const Network* net, int64_t networks, int64_t rows, const float* x, float* hidden,
                 float* out) {
  long units = net->hidden(), n_in = net->sizes[0], n_out = net->sizes[net->layers];
  Arena arena(net->space(rows) + Arena::padded(rows * units));
  if (!arena.block) return 1;
  float* scratch = hidden ? nullptr : arena.take(rows * units);
  for (long i = 0; i < networks; i++)
    forward(*net, i, rows, x + i * rows * n_in, hidden ? hidden + i * rows * units : scratch,
            out + i * rows * n_out, arena);
  return 0;
}

// Actions (N, rows) of N categorical policies with logits net(x): how many of the cumulative probabilities,
// without the last, are below the chance (N, rows), uniform in [0, 1)
int32_t mlp_sample(const Network* net, int64_t networks, int64_t rows, const float* x,
                   const double* chance, int64_t* action) {
  long units = net->hidden(), n_in = net->sizes[0], A = net->sizes[net->layers];
  Arena arena(net->space(rows) + Arena::padded(rows * units) + Arena::padded(rows * A));
  if (!arena.block) return 1;
  float *hidden = arena.take(rows * units), *out = arena.take(rows * A);
  for (long i = 0; i < networks; i++) {
    forward(*net, i, rows, x + i * rows * n_in, hidden, out, arena);
    for (long r = 0; r < rows; r++) {
      float *p = out + r * A, most = p[0], total = 0, sum = 0;
      for (long a = 1; a < A; a++) most = maximum(most, p[a]);
      for (long a = 0; a < A; a++) p[a] -= most;
      each(A, p, [](Vec y) { return exponential(y); });
      for (long a = 0; a < A; a++) total += p[a];
      int64_t chosen = 0;
      for (long a = 0; a + 1 < A; a++) sum += p[a], chosen += chance[i * rows + r] * total > sum;
      action[i * rows + r] = chosen;
    }
  }
  return 0;
}

// The gradients of the parameters (N, P) and of x (N, rows, in), either may be null, from that of the output
int32_t mlp_backward(const Network* net, int64_t networks, int64_t rows, const float* x, const float* hidden,
                  const float* out_grad, float* grad, float* x_grad) {
  long units = net->hidden(), n_in = net->sizes[0], n_out = net->sizes[net->layers],
       parameters = net->parameters();
  Arena arena(net->space(rows));
  if (!arena.block) return 1;
  if (grad) __builtin_memset(grad, 0, sizeof(float) * networks * parameters);
  for (long i = 0; i < networks; i++)
    backward(*net, i, rows, x + i * rows * n_in, hidden + i * rows * units, out_grad + i * rows * n_out,
             grad ? grad + i * parameters : nullptr, x_grad ? x_grad + i * rows * n_in : nullptr, arena);
  return 0;
}

// Step t of Adam on the parameters x (S, P)
int32_t adam_step(const Adam* a, int64_t t, int64_t seeds, int64_t parameters, float* x, float* m, float* v,
               const float* g) {
  for (long i = 0; i < seeds * parameters; i += parameters)
    adam(*a, t, parameters, x + i, m + i, v + i, g + i, 1.0f);
  return 0;
}

// Steps t + 1, t + 2, ... on minibatches of `size` rows, in the order (S, steps * size) int64 of rows among
// n. Parameters x (S, P): the policy's, log standard deviations unless discrete, the value network's; m and v
// are Adam's. metrics (S, 6) float64 receives the means over the steps.
int32_t ppo_steps(const Objective* o, const Network* policy_net, const Network* value_net, int64_t seeds,
               int64_t n, int64_t steps, int64_t size, const int64_t* order, const Columns* columns,
               int64_t t, float* x, float* m, float* v, double* metrics) {
  Network policy = *policy_net, value = *value_net;
  long n_policy = policy.sizes[0], n_value = value.sizes[0], A = policy.sizes[policy.layers];
  long policy_size = policy.parameters() + (o->discrete ? 0 : A), P = policy_size + value.parameters();
  bool shared = columns->policy_obs == columns->value_obs;
  long units = policy.hidden() + value.hidden(), most = policy.space(BLOCK) + value.space(BLOCK);
  Arena arena(most + Arena::padded(P) + BLOCK * (n_policy + n_value + units + 8 * A + 16) +
              4 * Arena::padded(A) + 512);
  if (!arena.block) return 1;
  Block b;
  b.actions = A;
  b.policy_obs = arena.take(BLOCK * n_policy);
  b.value_obs = shared ? b.policy_obs : arena.take(BLOCK * n_value);
  float** per_action[] = {&b.action, &b.out, &b.out_grad, &b.log_prob, &b.prob};
  for (float** p : per_action) *p = arena.take(BLOCK * A);
  float** per_row[] = {&b.old_logp,   &b.advantage, &b.ret,     &b.old_value, &b.value,
                       &b.value_grad, &b.logp,      &b.entropy, &b.ratio,     &b.total};
  for (float** p : per_row) *p = arena.take(BLOCK);
  b.choice = (int64_t*)arena.take(2 * BLOCK);
  b.hidden = arena.take(BLOCK * units);
  float *value_hidden = b.hidden + BLOCK * policy.hidden(), *inverse_std = arena.take(A),
        *grad = arena.take(P);
  for (long s = 0; s < seeds; s++) {
    float* row = x + s * P;
    policy.place(row);
    value.place(row + policy_size);
    const float* log_std = o->discrete ? nullptr : row + policy.parameters();
    Columns c = columns->of_seed(s, n, n_policy, n_value, A, o->discrete);
    double* means = metrics + s * 6;
    for (long k = 0; k < 6; k++) means[k] = 0;
    for (long step = 0; step < steps; step++) {
      const int64_t* rows = order + (s * steps + step) * size;
      float mean = 0, factor = 1;
      if (o->standardise) standard(c.advantage, rows, size, &mean, &factor);
      if (log_std) {
        for (long a = 0; a < A; a++) inverse_std[a] = -log_std[a];
        each(A, inverse_std, [](Vec y) { return exponential(y); });
      }
      __builtin_memset(grad, 0, sizeof(float) * P);
      Sums sums;
      for (long first = 0; first < size; first += BLOCK) {
        b.rows = smaller(BLOCK, size - first);
        for (long i = 0; i < b.rows; i++) gather(c, o->discrete, rows[first + i], i, n_policy, n_value, b);
        forward(policy, 0, b.rows, b.policy_obs, b.hidden, b.out, arena);
        forward(value, 0, b.rows, b.value_obs, value_hidden, b.value, arena);
        densities(b, o->discrete, log_std, inverse_std);
        losses(*o, b, size, mean, factor, inverse_std, grad + policy.parameters(), sums);
        backward(policy, 0, b.rows, b.policy_obs, b.hidden, b.out_grad, grad, nullptr, arena);
        backward(value, 0, b.rows, b.value_obs, value_hidden, b.value_grad, grad + policy_size, nullptr,
                 arena);
      }
      float policy_norm = sum_of_squares(policy_size, grad),
            value_norm = sum_of_squares(P - policy_size, grad + policy_size);
      float norm = __builtin_sqrtf(policy_norm + value_norm);
      policy_norm = o->separate_norms ? __builtin_sqrtf(policy_norm) : norm;
      value_norm = o->separate_norms ? __builtin_sqrtf(value_norm) : norm;
      long done = s * P, rest = done + policy_size;
      adam(o->adam, t + step + 1, policy_size, x + done, m + done, v + done, grad,
           minimum(1.0f, o->max_grad_norm / policy_norm));
      adam(o->adam, t + step + 1, P - policy_size, x + rest, m + rest, v + rest, grad + policy_size,
           minimum(1.0f, o->max_grad_norm / value_norm));
      double now[6] = {sums.policy_loss / size, sums.value_loss / size,    sums.entropy / size,
                       sums.approx_kl / size,   sums.clip_fraction / size, norm};
      for (long k = 0; k < 6; k++) means[k] += now[k] / steps;
    }
  }
  return 0;
}

// f(x) of n numbers in place: 0 exponential, 1 logarithm, 2 tanh. For tests.
int32_t elementary(int64_t f, int64_t n, float* x) {
  if (f == 0) each(n, x, [](Vec y) { return exponential(y); });
  if (f == 1) each(n, x, [](Vec y) { return logarithm(y); });
  if (f == 2) each(n, x, [](Vec y) { return tanh(y); });
  return 0;
}
}
