// Adam and the norm of a gradient, for the parameters of one seed.
#pragma once
#include "vector.h"

struct Adam {  // the same in __init__.py
  double learning_rate, beta1, beta2, eps;
};

// base^n by repeated squaring: the C library's pow differs from version to version
inline double power(double base, long n) {
  double result = 1;
  for (; n; n /= 2, base *= base)
    if (n % 2) result *= base;
  return result;
}

// Step t (counted from 1) of Adam on n parameters, with the gradient g times `factor`
inline void adam(const Adam& a, long t, long n, float* x, float* m, float* v, const float* g, float factor) {
  const float size = float(a.learning_rate / (1 - power(a.beta1, t)));
  const float scale = float(1 / __builtin_sqrt(1 - power(a.beta2, t)));
  const float old1 = float(a.beta1), new1 = float(1 - a.beta1), old2 = float(a.beta2),
              new2 = float(1 - a.beta2);
  const float eps = float(a.eps);
  for (long i = 0; i < n; i += LANES) {
    float last[4][LANES] = {};
    float *to_x = x + i, *to_m = m + i, *to_v = v + i;
    const float* from_g = g + i;
    long width = n - i < LANES ? n - i : LANES;
    if (width < LANES) {
      for (long k = 0; k < width; k++)
        last[0][k] = x[i + k], last[1][k] = m[i + k], last[2][k] = v[i + k], last[3][k] = g[i + k];
      to_x = last[0], to_m = last[1], to_v = last[2], from_g = last[3];
    }
    Vec grad = load(from_g) * factor;
    Vec mean = fma(grad, broadcast(new1), load(to_m) * old1),
        square = fma(grad * grad, broadcast(new2), load(to_v) * old2);
    store(to_m, mean);
    store(to_v, square);
    store(to_x, load(to_x) - size * mean / (square_root(square) * scale + eps));
    if (width < LANES)
      for (long k = 0; k < width; k++) x[i + k] = last[0][k], m[i + k] = last[1][k], v[i + k] = last[2][k];
  }
}

// The sum of squares of n numbers: 64 sums side by side, whatever the width of a vector, then by halves
inline float sum_of_squares(long n, const float* x) {
  alignas(64) float sums[64] = {}, last[64] = {};
  for (long i = 0; i < n; i += 64) {
    const float* from = x + i;
    if (n - i < 64) {
      for (long k = 0; k < n - i; k++) last[k] = from[k];
      from = last;
    }
    for (long j = 0; j < 64; j += LANES) store(sums + j, fma(load(from + j), load(from + j), load(sums + j)));
  }
  for (long half = 32; half; half /= 2)
    for (long j = 0; j < half; j++) sums[j] += sums[j + half];
  return sums[0];
}
