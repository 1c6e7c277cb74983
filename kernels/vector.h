// Vectors of floats, and elementary functions with the same bits on every processor and from every compiler.
//
// All sums and functions here are fixed sequences of IEEE operations (add, multiply, fused multiply-add,
// divide, square root), each rounded once. The number of lanes changes how many elements are computed at a
// time and nothing else. Build with -ffp-contract=off, or the compiler may fuse other multiplications with
// additions.
//
// Comparisons are written so that NaN passes through: a seed that has diverged stays NaN.
#pragma once
#include <stdint.h>
#if !defined(__clang__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

inline Vec load(const float* p) { return *(const Unaligned*)p; }
inline void store(float* p, Vec x) { *(Unaligned*)p = x; }
inline Vec broadcast(float x) { return x - Vec{}; }  // x in every lane

// a * b + c, rounded once
inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__clang__)
  return __builtin_elementwise_fma(a, b, c);
#elif defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#else
  return _mm256_fmadd_ps(a, b, c);
#endif
}

inline Vec square_root(Vec x) {
#if defined(__clang__)
  return __builtin_elementwise_sqrt(x);
#elif defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#else
  return _mm256_sqrt_ps(x);
#endif
}

// x, so that clang does not see where it came from: it would turn a choice between a number in memory and
// another into a store under a mask, which takes ten times as long on some processors
inline Vec computed(Vec x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#else
  asm("" : "+w"(x));
#endif
  return x;
}

inline Vec minimum(Vec limit, Vec x) { return limit < x ? limit : x; }
inline Vec maximum(Vec limit, Vec x) { return limit > x ? limit : x; }
inline float minimum(float limit, float x) { return limit < x ? limit : x; }
inline float maximum(float limit, float x) { return limit > x ? limit : x; }
inline long smaller(long a, long b) { return a < b ? a : b; }
inline long larger(long a, long b) { return a > b ? a : b; }

// The polynomial with the given coefficients, highest power first
inline Vec polynomial(Vec, Vec sum) { return sum; }
template <class... Rest>
inline Vec polynomial(Vec x, Vec sum, float next, Rest... rest) {
  return polynomial(x, fma(sum, x, broadcast(next)), rest...);
}

// e^x for x in [-87, 88], the nearer limit beyond. x = n log 2 + r; e^r = 1 + r + r^2 q(r), with a Chebyshev
// fit q.
inline Vec exponential(Vec x) {
  x = maximum(broadcast(-87.0f), minimum(broadcast(88.0f), x));
  Vec n =
      (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // to the nearest integer: 1.5 * 2^23 has no fraction
  Vec r = fma(n, broadcast(-1.42860677e-6f), fma(n, broadcast(-0.693145752f), x));
  Vec q = polynomial(r, broadcast(0.00139262504f), 0.00836323295f, 0.0416665524f, 0.166665763f, 0.5f);
  Ints bits = (__builtin_convertvector(n, Ints) + 127) << 23;
  return fma(q, r * r, r + 1.0f) * (Vec)bits;
}

// The natural logarithm of a positive normal number. x = 2^n (1 + f), 1 + f in [sqrt 1/2, sqrt 2].
inline Vec logarithm(Vec x) {
  Ints shifted = (Ints)x - 0x3f3504f3;  // the bits of sqrt 1/2
  Vec n = __builtin_convertvector(shifted >> 23, Vec);
  Vec f = (Vec)((shifted & 0x7fffff) + 0x3f3504f3) - 1.0f;
  Vec q = polynomial(f, broadcast(0.0697161183f), -0.114797339f, 0.116854198f, -0.124256872f, 0.142490581f,
                     -0.166678026f, 0.200007156f, -0.24999997f, 0.333333313f);
  Vec low = fma(q * f, f * f, fma(n, broadcast(1.42860677e-6f), f * f * -0.5f));
  Vec y = fma(n, broadcast(0.693145752f), f + low);
  return x > 0.0f ? y : x - x + broadcast(__builtin_nanf(""));
}

// The hyperbolic tangent: x + x^3 p(x^2) for |x| < 0.625, else +-(1 - 2 / (e^2|x| + 1))
inline Vec tanh(Vec x) {
  Vec size = x < 0.0f ? -x : x, y = x * x;
  Vec p =
      polynomial(y, broadcast(-0.00599296112f), 0.0209241491f, -0.0538351424f, 0.133326635f, -0.333333284f);
  Vec large = 1.0f - 2.0f / (exponential(minimum(broadcast(20.0f), size + size)) + 1.0f);
  return size < 0.625f ? fma(p * y, x, x) : (x < 0.0f ? -large : large);
}

// Memory of one call, from a block that stays with the thread and grows as needed; null if it cannot
class Arena {
 public:
  static thread_local char* block;
  explicit Arena(long floats) {
    if (floats > size) {
      __builtin_free(block);
      block = (char*)__builtin_malloc(4 * floats + 64);
      size = block ? floats : 0;
    }
    next = (float*)(((uintptr_t)block + 63) / 64 * 64);
  }
  float* take(long floats) {  // aligned to a cache line; ask for `padded` floats at most
    float* taken = next;
    next += padded(floats);
    return taken;
  }
  static long padded(long floats) { return (floats + 15) / 16 * 16; }

 private:
  float* next;
  static thread_local long size;
};
