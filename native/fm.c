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

WIDE static void backward(
    Rows rows, const float *s, const float *slopes, int64_t factors, float *of_v, float *of_w, float *squares) {
    for (int64_t i = 0; i < rows.count; i++, s += factors) {
        spread_row(rows, i, s, slopes[i], factors, of_v);
        for (int64_t e = rows.borders[i]; e < rows.borders[i + 1]; e++) {
            float part = rows.values[e] * slopes[i];
            of_w[rows.columns[e]] += part;
            squares[rows.columns[e]] += rows.values[e] * part;
        }
    }
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

/* fm_backward(borders, columns, values, s (n × k), slopes (n), of_v (c × k), of_w (c), squares (c), factors): for each
 * column the sums over rows of slope x s, slope x and slope x². */
KERNEL(fm_backward) {
    Py_buffer views[8];
    if (miscounted(count, 9))
        return NULL;
    long long factors = PyLong_AsLongLong(given[8]);
    if ((factors == -1 && PyErr_Occurred()) || take(given, views, 8, 3))
        return NULL;
    Rows rows = rows_of(views);
    int64_t width = whole_rows(&views[5], factors);
    PyObject *result = NULL;
    if (!inside(rows, width))
        outside();
    else if (
        whole_rows(&views[3], factors) < rows.count || views[4].len / 4 < rows.count || views[6].len / 4 < width ||
        views[7].len / 4 < width)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        for (int i = 5; i < 8; i++)
            memset(views[i].buf, 0, (size_t)views[i].len);
        backward(rows, views[3].buf, views[4].buf, factors, views[5].buf, views[6].buf, views[7].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 8);
    return result;
}
