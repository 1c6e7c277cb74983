// Matrix products with one order of sums: out(i, j) = start(i, j) + sum over k of a(i, k) b(k, j), k
// ascending, one fused multiply-add for each term. Blocks and vector widths decide which elements are
// computed together, and never in what order the terms of one element are added.
#pragma once
#include "vector.h"

struct Matrix {  // element (i, j) is at[i * row + j * column]
  const float* at;
  long row, column;
};

#if defined(__AVX512F__)
constexpr int TILE_ROWS = 8, TILE_VECS = 2;  // 16 sums in 32 registers
#else
constexpr int TILE_ROWS = 6, TILE_VECS = 2;  // 12 sums in 16 registers
#endif
constexpr int PANEL = TILE_VECS * LANES;  // columns of a tile

// R rows and C vectors of the product
template <int R, int C>
inline void tile(long depth, Matrix a, const float* b, long b_row, const float* start, long start_row,
                 float* out, long out_row) {
  Vec sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) sum[r][c] = load(start + r * start_row + c * LANES);
  for (long k = 0; k < depth; k++) {
    Vec right[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) right[c] = load(b + k * b_row + c * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      Vec left = broadcast(a.at[r * a.row + k * a.column]);
#pragma GCC unroll 8
      for (int c = 0; c < C; c++) sum[r][c] = fma(left, right[c], sum[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) store(out + r * out_row + c * LANES, sum[r][c]);
}

// `rows` < 2 R rows and C vectors
template <int R, int C>
inline void tiles(long rows, long depth, Matrix a, const float* b, long b_row, const float* start,
                  long start_row, float* out, long out_row) {
  if (rows >= R) {
    tile<R, C>(depth, a, b, b_row, start, start_row, out, out_row);
    rows -= R, a.at += R * a.row, start += R * start_row, out += R * out_row;
  }
  if constexpr (R > 1) {
    if (rows) tiles<R / 2, C>(rows, depth, a, b, b_row, start, start_row, out, out_row);
  } else if (rows) {
    tile<1, C>(depth, a, b, b_row, start, start_row, out, out_row);
  }
}

// An 8 x 8 block, transposed: to(j, i) = from(i, j)
inline void transpose(const float* from, long from_row, float* to, long to_row) {
  typedef float Eight __attribute__((vector_size(32)));
  typedef float Loose __attribute__((vector_size(32), aligned(4), may_alias));
  Eight x[8], y[8];
  for (int i = 0; i < 8; i++) x[i] = *(const Loose*)(from + i * from_row);
  for (int i = 0; i < 8; i += 2) {
    y[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    y[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      x[i + j] = __builtin_shufflevector(y[i + j], y[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      x[i + j + 2] = __builtin_shufflevector(y[i + j], y[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int j = 0; j < 4; j++) {
    *(Loose*)(to + j * to_row) = __builtin_shufflevector(x[j], x[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *(Loose*)(to + (j + 4) * to_row) = __builtin_shufflevector(x[j], x[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Copy `width` columns of b to a panel with rows of `columns` numbers, those beyond `width` zero
inline void pack(long depth, long width, Matrix b, float* panel, long columns) {
  long transposed = b.column == 1 ? 0 : width / 8 * 8;  // columns that are copied in blocks
  for (long j = 0; j < transposed; j += 8) {
    long k = 0;
    for (; k + 8 <= depth; k += 8)
      transpose(b.at + k + j * b.column, b.column, panel + k * columns + j, columns);
    for (; k < depth; k++)
      for (long i = j; i < j + 8; i++) panel[k * columns + i] = b.at[k + i * b.column];
  }
  for (long k = 0; k < depth; k++) {
    long j = transposed;
    if (b.column == 1)
      for (; j + LANES <= width; j += LANES) store(panel + k * columns + j, load(b.at + k * b.row + j));
    for (; j < width; j++) panel[k * columns + j] = b.at[k * b.row + j * b.column];
    for (; j < columns; j++) panel[k * columns + j] = 0.0f;
  }
}

// Floats of the arena that a product takes: a panel, the tiles at an edge, and a copy of a
inline long product_space(long rows, long depth) {
  return Arena::padded(depth * PANEL) + Arena::padded(TILE_ROWS * PANEL) + Arena::padded(rows * depth);
}

// out (rows, width) = start + a (rows, depth) b (depth, width). The start is `out` itself if `add`, else the
// bias, or zero without one. One of a.row and a.column is 1, and one of b.row and b.column. The arena is
// given back.
inline void product(long rows, long width, long depth, Matrix a, Matrix b, const float* bias, bool add,
                    float* out, long out_row, Arena arena) {
  alignas(64) static const float zeros[PANEL] = {};
  float* panel = arena.take(depth * PANEL);
  float* edge = arena.take(TILE_ROWS * PANEL);  // of the output, where a tile is wider
  float* blocks = nullptr;  // a in blocks of TILE_ROWS, if its rows are far apart
  if (a.column != 1 && width > 2 * PANEL && depth * a.column > 4096) {
    blocks = arena.take(rows * depth);
    for (long i = 0; i < rows; i += TILE_ROWS) {
      long n = smaller(TILE_ROWS, rows - i);
      for (long k = 0; k < depth; k++)
        for (long r = 0; r < n; r++) blocks[i * depth + k * n + r] = a.at[(i + r) * a.row + k * a.column];
    }
  }
  for (long j = 0; j < width; j += PANEL) {
    long n = smaller(PANEL, width - j), columns = n > LANES ? PANEL : LANES;
    Matrix right = {b.at + j * b.column, b.row, b.column};
    if (n < columns || b.column != 1 || (rows >= 4 * TILE_ROWS && depth * b.row > 4096)) {
      pack(depth, n, right, panel, columns);
      right = {panel, columns, 1};
    }
    for (long i = 0; i < rows; i += TILE_ROWS) {
      long height = smaller(TILE_ROWS, rows - i), to_row = out_row;
      float* to = out + i * out_row + j;
      const float* start = add ? to : bias ? bias + j : zeros;
      long start_row = add ? out_row : 0;
      if (n < columns) {
        for (long r = 0; r < height; r++)
          for (long c = 0; c < n; c++) edge[r * columns + c] = start[r * start_row + c];
        to = edge, start = edge, to_row = start_row = columns;
      }
      Matrix left =
          blocks ? Matrix{blocks + i * depth, 1, height} : Matrix{a.at + i * a.row, a.row, a.column};
      if (columns == PANEL)
        tiles<TILE_ROWS, TILE_VECS>(height, depth, left, right.at, right.row, start, start_row, to, to_row);
      else tiles<TILE_ROWS, 1>(height, depth, left, right.at, right.row, start, start_row, to, to_row);
      if (n < columns)
        for (long r = 0; r < height; r++)
          for (long c = 0; c < n; c++) out[(i + r) * out_row + j + c] = edge[r * columns + c];
    }
  }
}
