/* Rows of a sparse matrix, as the class CSR has them: the values of row i are those from borders[i] to borders[i + 1]. */
#ifndef CLARY_SPARSE_H
#define CLARY_SPARSE_H

#include "kernels.h"

typedef struct {
    const int64_t *borders;
    const int64_t *columns;
    const float *values;
    int64_t count, size; /* of rows, of values */
} Rows;

/* For the parts of WIDE functions: they have to be in them to become wide. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* How many rows of so many float32 numbers a buffer has; none at all where the number makes no sense. */
static inline int64_t whole_rows(const Py_buffer *view, int64_t width) {
    return width < 1 ? -1 : view->len / 4 / width;
}

/* The rows in the first three buffers. */
static inline Rows rows_of(const Py_buffer *views) {
    int64_t columns = views[1].len / 8, values = views[2].len / 4;
    return (Rows){views[0].buf, views[1].buf, views[2].buf, views[0].len / 8 - 1, columns < values ? columns : values};
}

/* Whether all rows lie inside the buffers, and all columns inside a matrix that has so many. */
static inline bool inside(Rows rows, int64_t width) {
    if (rows.count < 0 || rows.borders[0] < 0 || rows.borders[rows.count] > rows.size)
        return false;
    bool falling = false;
    for (int64_t i = 0; i < rows.count; i++)
        falling |= rows.borders[i] > rows.borders[i + 1];
    if (falling)
        return false;
    uint64_t signs = 0; /* the sign bit of any column, or of what is left of the width beside it: no compare, no branch */
    for (int64_t e = rows.borders[0]; e < rows.borders[rows.count]; e++)
        signs |= (uint64_t)rows.columns[e] | ((uint64_t)width - 1 - (uint64_t)rows.columns[e]);
    return !(signs >> 63);
}

/* An error for rows that are not. */
static inline PyObject *outside(void) {
    PyErr_SetString(PyExc_ValueError, "a row or a column lies outside the arrays");
    return NULL;
}

/* Products with a matrix whose rows belong to columns of the data: each value takes one of them, or gives to one. Parts of
 * a row are as long as `wide` says, a constant where these functions are put. */

/* GCC would write a short loop out before it looks for vectors, and then find none. */
#if defined(__GNUC__) && !defined(__clang__)
#define LOOP _Pragma("GCC unroll 1")
#else
#define LOOP
#endif

enum { PART = 16 }; /* numbers that are summed at a time: as many as stay in registers */

INLINE void gather_part(
    Rows rows, int64_t i, const float *restrict matrix, int64_t width, const float *first, int wide, float *restrict out) {
    float sums[PART];
    for (int j = 0; j < wide; j++)
        sums[j] = first == NULL ? 0.0f : first[j];
    for (int64_t e = rows.borders[i]; e < rows.borders[i + 1]; e++) {
        const float *row = matrix + rows.columns[e] * width;
        float value = rows.values[e];
        for (int j = 0; j < wide; j++)
            sums[j] += value * row[j];
    }
    for (int j = 0; j < wide; j++)
        out[j] = sums[j];
}

INLINE void spread_part(
    Rows rows, int64_t i, const float *restrict row, float scale, int64_t width, int wide, float *restrict matrix) {
    for (int64_t e = rows.borders[i]; e < rows.borders[i + 1]; e++) {
        float *restrict sums = matrix + rows.columns[e] * width;
        float value = rows.values[e] * scale;
        LOOP
        for (int j = 0; j < wide; j++)
            sums[j] += value * row[j];
    }
}

/* Row i times a matrix, added to `first`, or to zero where that is NULL. */
INLINE void gather_row(Rows rows, int64_t i, const float *matrix, int64_t width, const float *first, float *out) {
    int64_t j = 0;
    for (; j + PART <= width; j += PART)
        gather_part(rows, i, matrix + j, width, first == NULL ? NULL : first + j, PART, out + j);
    for (; j + 4 <= width; j += 4)
        gather_part(rows, i, matrix + j, width, first == NULL ? NULL : first + j, 4, out + j);
    for (; j < width; j++)
        gather_part(rows, i, matrix + j, width, first == NULL ? NULL : first + j, 1, out + j);
}

/* Add the outer product of row i and of another row, scaled, to a matrix. */
INLINE void spread_row(Rows rows, int64_t i, const float *row, float scale, int64_t width, float *matrix) {
    int64_t j = 0;
    for (; j + PART <= width; j += PART)
        spread_part(rows, i, row + j, scale, width, PART, matrix + j);
    for (; j + 4 <= width; j += 4)
        spread_part(rows, i, row + j, scale, width, 4, matrix + j);
    for (; j < width; j++)
        spread_part(rows, i, row + j, scale, width, 1, matrix + j);
}

#endif
