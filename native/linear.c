/* Training of many linear models at once: products with sparse rows, the logistic loss, the steps of Adam.
 *
 * The models lie side by side, so that a row of the weights has the numbers of all of them for one column of the data:
 * each value of a sparse row takes or gives one such row, and vectors run over the models.
 *
 * D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
 * W. J. Cody, W. Waite, "Software Manual for the Elementary Functions", Prentice-Hall, 1980: how exp and log are reduced;
 * the polynomials are those of S. L. Moshier's Cephes library.
 */
#include "sparse.h"

#include <math.h>

enum { MANY = 512 }; /* outputs that the loss is computed of at a time: enough for a loop, few enough for the cache */

WIDE static void gather(Rows rows, const float *matrix, const float *first, int64_t models, float *out) {
    for (int64_t i = 0; i < rows.count; i++)
        gather_row(rows, i, matrix, models, first, out + i * models);
}

WIDE static void spread(Rows rows, const float *matrix, int64_t models, float *out) {
    for (int64_t i = 0; i < rows.count; i++)
        spread_row(rows, i, matrix + i * models, 1.0f, models, out);
}

/* csr_times(borders, columns, values, matrix (c × m), first (m), out (n × m)): sparse rows times a matrix, added to the
 * same first numbers in every row. */
KERNEL(csr_times) {
    Py_buffer views[6];
    if (miscounted(count, 6) || take(given, views, 6, 1))
        return NULL;
    Rows rows = rows_of(views);
    int64_t models = views[4].len / 4;
    PyObject *result = NULL;
    if (!inside(rows, whole_rows(&views[3], models)))
        outside();
    else if (whole_rows(&views[5], models) < rows.count)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        gather(rows, views[3].buf, views[4].buf, models, views[5].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 6);
    return result;
}

/* csr_transposed_times(borders, columns, values, matrix (n × m), out (c × m), models): the product of the transposed rows. */
KERNEL(csr_transposed_times) {
    Py_buffer views[5];
    if (miscounted(count, 6))
        return NULL;
    long long models = PyLong_AsLongLong(given[5]);
    if ((models == -1 && PyErr_Occurred()) || take(given, views, 5, 1))
        return NULL;
    Rows rows = rows_of(views);
    PyObject *result = NULL;
    if (!inside(rows, whole_rows(&views[4], models)))
        outside();
    else if (whole_rows(&views[3], models) < rows.count)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        memset(views[4].buf, 0, (size_t)views[4].len);
        spread(rows, views[3].buf, models, views[4].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 5);
    return result;
}

/* csr_ordered(borders, columns): whether the columns of every row rise, so that no two values share a place. */
KERNEL(csr_ordered) {
    Py_buffer views[2];
    if (miscounted(count, 2) || take(given, views, 2, 0))
        return NULL;
    const int64_t *borders = views[0].buf, *columns = views[1].buf;
    int64_t rows = views[0].len / 8 - 1, size = views[1].len / 8;
    int64_t at = rows < 0 ? 0 : borders[0];
    bool wrong = rows < 0 || at < 0, rising = true;
    for (int64_t i = 0; i < rows && !wrong; i++) {
        wrong = borders[i + 1] < at || borders[i + 1] > size;
        for (int64_t end = wrong ? at : borders[i + 1]; at < end; at++)
            rising &= at == borders[i] || columns[at] > columns[at - 1];
    }
    give_back(views, 2);
    return wrong ? outside() : PyBool_FromLong(rising);
}

/* csr_narrowed(columns, distinct, places, width): the columns that occur, ascending, and the place of each value's among
 * them; how many there are. `distinct` has room for all that there can be. */
KERNEL(csr_narrowed) {
    Py_buffer views[3];
    if (miscounted(count, 4))
        return NULL;
    long long width = PyLong_AsLongLong(given[3]);
    if ((width == -1 && PyErr_Occurred()) || take(given, views, 3, 2))
        return NULL;
    const int64_t *columns = views[0].buf;
    int64_t *distinct = views[1].buf, *places = views[2].buf;
    int64_t size = views[0].len / 8, room = views[1].len / 8, found = 0;
    int64_t *numbers = width < 0 || width > INT64_MAX / 8 ? NULL : calloc((size_t)width + 1, sizeof *numbers);
    PyObject *result = NULL;
    if (numbers == NULL)
        PyErr_NoMemory();
    else if (!inside((Rows){(int64_t[]){0, size}, columns, NULL, 1, size}, width))
        outside();
    else if (views[2].len / 8 < size || room < (size < width ? size : width))
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        for (int64_t e = 0; e < size; e++)
            numbers[columns[e]] = 1;
        for (int64_t j = 0; j < width; j++) {
            if (numbers[j]) {
                distinct[found] = j;
                numbers[j] = found++;
            }
        }
        for (int64_t e = 0; e < size; e++)
            places[e] = numbers[columns[e]];
        Py_END_ALLOW_THREADS;
        result = PyLong_FromLongLong(found);
    }
    free(numbers);
    give_back(views, 3);
    return result;
}

/* Polynomials are quicker with multiplications and additions in one, where the processor has them; ISO C has GCC ask. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#endif

/* The number with these bits, and the bits of a number. */
static inline float number(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The exponential of a number up to 88: 2^n times that of what is left, which a polynomial gives. n is rounded by adding
 * a number so large that float32 has no digits behind the point there, and its bits are n's. */
INLINE float exponential(float x) {
    const float large = 12582912.0f;                /* 1.5 · 2^23 */
    x = x < -104.0f ? -104.0f : x;                  /* where the result is 0 already; NaN stays */
    float shifted = x * 1.44269504088896341f + large;
    float n = shifted - large;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts, of which the first has few digits */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t power = (int32_t)(bits_of(shifted) - bits_of(large)), half = power >> 1; /* two steps: 2^-150 is no float32 */
    return p * number((uint32_t)(half + 127) << 23) * number((uint32_t)(power - half + 127) << 23);
}

/* The logarithm of a number from 1 up, finite: that of 2^e, and of m between √½ and √2. */
INLINE float logarithm(float x) {
    const uint32_t root = 0x3F3504F3u; /* √½ */
    uint32_t above = bits_of(x) - root;
    float e = (float)(int32_t)(above >> 23);
    float m = number((above & 0x7FFFFFu) + root) - 1.0f;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float square = m * m;
    return m + (p * m * square - 2.12194440e-4f * e - 0.5f * square) + 0.693359375f * e;
}

/* Losses log(1 + exp(wrong)) and slopes of some outputs, whose labels turn their signs: see `LogisticLoss`. */
INLINE void logistic_some(
    const float *restrict z, const float *restrict labels, int64_t many, float *restrict losses, float *restrict slopes) {
    for (int64_t j = 0; j < many; j++) {
        float against = 1.0f - 2.0f * labels[j], wrong = z[j] * against;
        float odds = exponential(wrong > 80.0f ? 80.0f : wrong), total = odds + 1.0f;
        float loss = logarithm(total);
        losses[j] = loss > wrong ? loss : wrong; /* beyond 80 both are the same; NaN is `wrong` */
        slopes[j] = odds / total * against;
    }
}

/* The same number for some outputs. */
INLINE void fill(float *restrict out, int64_t many, float value) {
    for (int64_t j = 0; j < many; j++)
        out[j] = value;
}

WIDE static void logistic_losses(
    const float *z, const float *labels, int64_t rows, int64_t models, float *losses, float *slopes) {
    float repeated[MANY]; /* the labels, one for each output: outputs of several rows are worked on together */
    int64_t each = models < MANY ? MANY / models : 1, width = models < MANY ? models : MANY;
    for (int64_t i = 0; i < rows; i += each) {
        int64_t here = rows - i < each ? rows - i : each;
        for (int64_t r = 0; r < here; r++)
            fill(repeated + r * width, width, labels[i + r]);
        for (int64_t j = 0; j < models; j += width) {
            int64_t at = i * models + j, many = models <= MANY ? here * models : models - j < MANY ? models - j : MANY;
            logistic_some(z + at, repeated, many, losses + at, slopes + at);
        }
    }
}

/* Add one row's weighted losses and slopes to the sums; the slopes stay as they were added. */
INLINE void add_row(
    const float *restrict losses, float *restrict slopes, int64_t models, float weight, float share,
    double *restrict of_losses, double *restrict of_slopes) {
    for (int64_t j = 0; j < models; j++) {
        slopes[j] *= share;
        of_losses[j] += weight * losses[j];
        of_slopes[j] += slopes[j];
    }
}

WIDE static void logistic_sums(
    const float *z, const float *labels, const float *weights, int64_t rows, int64_t models, float *slopes,
    double *sums) {
    float losses[MANY], repeated[MANY];
    int64_t each = MANY / models;
    for (int64_t i = 0; i < rows; i += each) {
        int64_t here = rows - i < each ? rows - i : each;
        for (int64_t r = 0; r < here; r++)
            fill(repeated + r * models, models, labels[i + r]);
        logistic_some(z + i * models, repeated, here * models, losses, slopes + i * models);
        for (int64_t r = 0; r < here; r++) {
            float weight = weights == NULL ? 1.0f : weights[i + r];
            float *own = slopes + (i + r) * models;
            add_row(losses + r * models, own, models, weight, weight / (float)rows, sums, sums + models);
        }
    }
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

/* logistic(z (n × m), labels (n), losses (n × m), slopes (n × m), models) */
KERNEL(logistic) {
    Py_buffer views[4];
    if (miscounted(count, 5))
        return NULL;
    long long models = PyLong_AsLongLong(given[4]);
    if ((models == -1 && PyErr_Occurred()) || take(given, views, 4, 2))
        return NULL;
    int64_t rows = views[1].len / 4;
    PyObject *result = NULL;
    if (whole_rows(&views[0], models) < rows || whole_rows(&views[2], models) < rows ||
        whole_rows(&views[3], models) < rows)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        logistic_losses(views[0].buf, views[1].buf, rows, models, views[2].buf, views[3].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 4);
    return result;
}

/* logistic_step(z (n × m), labels (n), weights (n) or None, slopes (n × m), sums (2 × m, float64)): slopes of the mean
 * of the weighted losses, and the sums over rows of the weighted losses and of the slopes. False for too many models. */
KERNEL(logistic_step) {
    Py_buffer views[5];
    if (miscounted(count, 5))
        return NULL;
    PyObject *arrays[] = {given[0], given[1], given[3], given[4], given[2]};
    bool weighted = !Py_IsNone(given[2]);
    if (take(arrays, views, 4, 2))
        return NULL;
    if (weighted && PyObject_GetBuffer(given[2], &views[4], PyBUF_C_CONTIGUOUS) < 0) {
        give_back(views, 4);
        return NULL;
    }
    int64_t rows = views[1].len / 4, models = views[3].len / 16;
    PyObject *result = NULL;
    if (models > MANY)
        result = Py_NewRef(Py_False);
    else if (
        whole_rows(&views[0], models) < rows || whole_rows(&views[2], models) < rows ||
        (weighted && views[4].len / 4 < rows))
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        memset(views[3].buf, 0, (size_t)models * 16);
        logistic_sums(
            views[0].buf, views[1].buf, weighted ? views[4].buf : NULL, rows, models, views[2].buf, views[3].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_True);
    }
    give_back(views, weighted ? 5 : 4);
    return result;
}

/* What the steps of Adam have in common. */
typedef struct {
    float beta_1, fresh_1, beta_2, fresh_2, eps;
} Betas;

/* One row's step, each number with a rate of its own. The operations are NumPy's, in its order. */
INLINE void adam_row(
    float *restrict w, const float *restrict gradient, float *restrict mean, float *restrict var,
    const float *restrict rates, int64_t models, Betas betas) {
    for (int64_t j = 0; j < models; j++) {
        float g = gradient[j];
        float m = mean[j] * betas.beta_1 + g * betas.fresh_1;
        float v = var[j] * betas.beta_2 + g * g * betas.fresh_2;
        mean[j] = m;
        var[j] = v;
        w[j] -= m / (sqrtf(v) + betas.eps) * rates[j];
    }
}

WIDE static void adam_rows(
    float *w, const float *gradient, float *mean, float *var, const float *rates, const int64_t *chosen, int64_t rows,
    int64_t models, Betas betas) {
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = (chosen == NULL ? i : chosen[i]) * models;
        adam_row(w + at, gradient + i * models, mean + at, var + at, rates, models, betas);
    }
}

/* adam(gradient, rates (m), w, mean, var, chosen or None, beta_1, 1 - beta_1, beta_2, 1 - beta_2, eps): a step of all rows
 * of a parameter, or of those that are chosen. */
KERNEL(adam) {
    Py_buffer views[6];
    if (miscounted(count, 11))
        return NULL;
    double settings[5];
    for (int i = 0; i < 5; i++) {
        settings[i] = PyFloat_AsDouble(given[6 + i]);
        if (settings[i] == -1 && PyErr_Occurred())
            return NULL;
    }
    if (take(given, views, 5, 3))
        return NULL;
    bool all = Py_IsNone(given[5]);
    if (!all && PyObject_GetBuffer(given[5], &views[5], PyBUF_C_CONTIGUOUS) < 0) {
        give_back(views, 5);
        return NULL;
    }
    const int64_t *chosen = all ? NULL : views[5].buf;
    int64_t models = views[1].len / 4, rows = whole_rows(&views[0], models), least = rows;
    bool wrong = rows < 0 || (!all && views[5].len / 8 != rows);
    for (int i = 2; i < 5; i++) {
        int64_t here = whole_rows(&views[i], models);
        least = i == 2 || here < least ? here : least;
    }
    if (all)
        wrong |= least < rows;
    else
        for (int64_t i = 0; i < rows && !wrong; i++)
            wrong = (uint64_t)chosen[i] >= (uint64_t)least;
    PyObject *result = NULL;
    if (wrong)
        outside();
    else {
        Betas betas = {
            (float)settings[0], (float)settings[1], (float)settings[2], (float)settings[3], (float)settings[4],
        };
        Py_BEGIN_ALLOW_THREADS;
        adam_rows(
            views[2].buf, views[0].buf, views[3].buf, views[4].buf, views[1].buf, chosen, rows, models, betas);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, all ? 5 : 6);
    return result;
}
