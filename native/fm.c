/* Factorization machines on sparse rows: outputs, and the sums over rows that gradients are made of.
 *
 * y = w0 + Σ x w + ½ Σ_f [(Σ x v_f)² - Σ x² v_f²], one sum s = xV for each factor; see fm_model.py.
 *
 * S. Rendle, "Factorization Machines", ICDM 2010.
 */
#include "sparse.h"

/* The sum of squares, in several sums, as one would wait for each addition. */
INLINE float square_of(const float *numbers, int64_t many) {
    float parts[PART] = {0}, sum = 0;
    int64_t f = 0;
    for (; f + PART <= many; f += PART)
        for (int p = 0; p < PART; p++)
            parts[p] += numbers[f + p] * numbers[f + p];
    for (; f < many; f++)
        sum += numbers[f] * numbers[f];
    for (int p = 0; p < PART; p++)
        sum += parts[p];
    return sum;
}

/* Factors and weights as they are, and how they decay. */
typedef struct {
    const float *v, *w;
    float decay_v, decay_w;
} Now;

WIDE static void forward(
    Rows rows, const float *v, const float *w, const float *norms, int64_t factors, float bias, float *y, float *s) {
    for (int64_t i = 0; i < rows.count; i++, s += factors) {
        gather_row(rows, i, v, factors, NULL, s);
        float linear = 0;
        for (int64_t e = rows.borders[i]; e < rows.borders[i + 1]; e++) {
            int64_t column = rows.columns[e];
            linear += rows.values[e] * (w[column] - 0.5f * rows.values[e] * norms[column]);
        }
        y[i] = 0.5f * square_of(s, factors) + linear + bias;
    }
}

/* What a gradient has beside the sums over rows: an interaction leaves out a value's product with itself, and numbers
 * decay. */
INLINE void decay_row(float *restrict out, const float *restrict numbers, float share, int64_t many) {
    for (int64_t f = 0; f < many; f++)
        out[f] += share * numbers[f];
}

/* Gradients of `width` columns; `squares` is room for a sum of each. */
WIDE static void backward(
    Rows rows, const float *s, const float *slopes, Now now, int64_t width, int64_t factors, float *of_v, float *of_w,
    float *squares) {
    memset(of_v, 0, (size_t)(width * factors) * sizeof *of_v);
    memset(of_w, 0, (size_t)width * sizeof *of_w);
    memset(squares, 0, (size_t)width * sizeof *squares);
    for (int64_t i = 0; i < rows.count; i++, s += factors) {
        spread_row(rows, i, s, slopes[i], factors, of_v);
        for (int64_t e = rows.borders[i]; e < rows.borders[i + 1]; e++) {
            float part = rows.values[e] * slopes[i];
            of_w[rows.columns[e]] += part;
            squares[rows.columns[e]] += rows.values[e] * part;
        }
    }
    decay_row(of_w, now.w, now.decay_w, width);
    for (int64_t j = 0; j < width; j++)
        decay_row(of_v + j * factors, now.v + j * factors, now.decay_v - squares[j], factors);
}

/* fm_forward(borders, columns, values, v (c × k), w (c), norms of the rows of v (c), y (n), s (n × k), factors, w0) */
KERNEL(fm_forward) {
    Py_buffer views[8];
    if (miscounted(count, 10))
        return NULL;
    long long factors = PyLong_AsLongLong(given[8]);
    double bias = PyFloat_AsDouble(given[9]);
    if (PyErr_Occurred() || take(given, views, 8, 2))
        return NULL;
    Rows rows = rows_of(views);
    int64_t width = whole_rows(&views[3], factors);
    PyObject *result = NULL;
    if (!inside(rows, width))
        outside();
    else if (
        views[4].len / 4 < width || views[5].len / 4 < width || views[6].len / 4 < rows.count ||
        whole_rows(&views[7], factors) < rows.count)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        forward(
            rows, views[3].buf, views[4].buf, views[5].buf, factors, (float)bias, views[6].buf, views[7].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 8);
    return result;
}

/* fm_backward(borders, columns, values, s (n × k), slopes (n), v (c × k), w (c), of_v (c × k), of_w (c), room (c),
 * factors, decay of w, of v): the gradients of factors and weights. */
KERNEL(fm_backward) {
    Py_buffer views[10];
    if (miscounted(count, 13))
        return NULL;
    long long factors = PyLong_AsLongLong(given[10]);
    double decay_w = PyFloat_AsDouble(given[11]), decay_v = PyFloat_AsDouble(given[12]);
    if (PyErr_Occurred() || take(given, views, 10, 3))
        return NULL;
    Rows rows = rows_of(views);
    int64_t width = whole_rows(&views[7], factors);
    PyObject *result = NULL;
    if (!inside(rows, width))
        outside();
    else if (
        whole_rows(&views[3], factors) < rows.count || views[4].len / 4 < rows.count ||
        whole_rows(&views[5], factors) < width || views[6].len / 4 < width || views[8].len / 4 < width ||
        views[9].len / 4 < width)
        too_short();
    else {
        Now now = {views[5].buf, views[6].buf, (float)decay_v, (float)decay_w};
        Py_BEGIN_ALLOW_THREADS;
        backward(
            rows, views[3].buf, views[4].buf, now, width, factors, views[7].buf, views[8].buf, views[9].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 10);
    return result;
}
