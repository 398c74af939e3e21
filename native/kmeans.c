/* K-means: the closest centre of each row, and the sums of the rows of each centre, in one pass over the rows.
 *
 * A squared distance is |x|² - 2xc + |c|². Many rows are mostly zeros, though nobody calls them sparse: of a block of
 * rows the columns with values are listed first. Only these are multiplied, some columns and as many centres as registers
 * can hold sums of at a time, so that these numbers of the centres stay in the first cache for the whole block.
 */
#include "sparse.h"

#include <math.h>

enum {
    LANES = 8,               /* centres in a vector; numbers whose columns are listed together */
    VECTORS = 13,            /* at most, in a tile of centres */
    STEP = 64,               /* columns that are looked at together */
    BLOCK = 64,              /* rows at a time, at most */
    LISTED = 1 << 22,        /* numbers of a block, at most, unless one row has more */
    FIRST_CACHE = 24 << 10,  /* bytes of it for numbers of the centres */
    TOGETHER = 2048          /* rows whose sums are float32 before they are added to those of float64 */
};

/* Loops over the vectors of a tile are written out, so that the sums are in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 13")
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
typedef int32_t Columns __attribute__((vector_size(LANES * sizeof(int32_t)), aligned(4), may_alias));

/* The rows, the centres, and what is found. */
typedef struct {
    const float *rows;    /* n × d */
    const float *centres; /* tiles × d × centres of a tile, zero where there are no more */
    const float *norms;   /* k */
    int64_t *labels;      /* n */
    float *squared;       /* n */
    double *sums;         /* k × d, or NULL */
    double *counts;       /* k, or NULL */
    int64_t n, d, k, tiles;
    int vectors; /* of a tile */
} Task;

/* What is known of a block of rows. The columns with values of row r in chunk c of the columns are those from
 * ends[r × (chunks + 1) + c] to the next end. */
typedef struct {
    int32_t *columns;
    int32_t *ends;
    float *scores;                /* block × width: products with the centres, later |c|² - 2xc */
    float *sums;                  /* k × d, of the last rows */
    int64_t block, width;         /* most rows, and centres of all tiles */
    int64_t chunk, chunks;        /* columns of a chunk, and their number */
    int32_t places[256][LANES];   /* which bits of a byte are set */
    int32_t many[256];            /* how many are */
} Work;

static void list_bits(Work *work) {
    for (int byte = 0; byte < 256; byte++) {
        int many = 0;
        for (int bit = 0; bit < LANES; bit++)
            if (byte >> bit & 1)
                work->places[byte][many++] = bit;
        work->many[byte] = many;
    }
}

/* Whether there is memory for the work. */
static bool room(const Task *task, Work *work) {
    int64_t most = LISTED / task->d, chunk = FIRST_CACHE / (task->vectors * LANES * 4) / STEP * STEP;
    work->block = most < 1 ? 1 : most < BLOCK ? most : BLOCK;
    work->chunk = chunk < STEP ? STEP : chunk;
    work->chunks = (task->d + work->chunk - 1) / work->chunk;
    work->width = task->tiles * task->vectors * LANES;
    list_bits(work);
    size_t rows = (size_t)work->block;
    work->columns = malloc((rows * (size_t)task->d + LANES) * sizeof *work->columns);
    work->ends = malloc(rows * (size_t)(work->chunks + 1) * sizeof *work->ends);
    work->scores = malloc(rows * (size_t)work->width * sizeof *work->scores);
    work->sums = calloc(task->sums == NULL ? 1 : (size_t)(task->k * task->d), sizeof *work->sums);
    return work->columns != NULL && work->ends != NULL && work->scores != NULL && work->sums != NULL;
}

static void leave(Work *work) {
    free(work->columns);
    free(work->ends);
    free(work->scores);
    free(work->sums);
}

/* Append the columns of a row where there is a value, and tell where each chunk begins and the last one ends. */
INLINE int32_t list(const Work *work, const float *row, int64_t d, int32_t many, int32_t *ends) {
    int32_t *columns = work->columns;
    for (int64_t start = 0; start < d; start += STEP) {
        if (start % work->chunk == 0)
            *ends++ = many;
        int64_t wide = d - start < STEP ? d - start : STEP;
        uint8_t flags[STEP] = {0};
        if (wide == STEP) /* as often as the compiler knows, so that it makes vectors */
            for (int i = 0; i < STEP; i++)
                flags[i] = row[start + i] != 0;
        else
            for (int64_t i = 0; i < wide; i++)
                flags[i] = row[start + i] != 0;
        for (int64_t at = 0; at < wide; at += LANES) {
            uint64_t eight;
            memcpy(&eight, flags + at, sizeof eight);
            int byte = (int)(eight * 0x0102040810204080u >> 56); /* the lowest bit of each byte */
            *(Columns *)(columns + many) = *(const Columns *)work->places[byte] + (int32_t)(start + at);
            many += work->many[byte];
        }
    }
    *ends = many;
    return many;
}

/* Products are quicker with multiplications and additions in one, where the processor has them; ISO C has GCC ask. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#endif

/* Add to a row's products with the centres of a tile those of its values in some columns. */
INLINE void multiply(
    const float *row, const int32_t *columns, int64_t many, const float *tile, int vectors, float *products) {
    Vector sums[VECTORS];
    UNROLL
    for (int v = 0; v < vectors; v++)
        sums[v] = *(const Vector *)(products + v * LANES);
    for (int64_t e = 0; e < many; e++) {
        const float *centres = tile + (int64_t)columns[e] * (vectors * LANES);
        float value = row[columns[e]];
        UNROLL
        for (int v = 0; v < vectors; v++)
            sums[v] += value * *(const Vector *)(centres + v * LANES);
    }
    UNROLL
    for (int v = 0; v < vectors; v++)
        *(Vector *)(products + v * LANES) = sums[v];
}

INLINE void multiply_all(const Task *task, const Work *work, const float *block, int64_t rows, int vectors) {
    for (int64_t c = 0; c < work->chunks; c++) {
        for (int64_t t = 0; t < task->tiles; t++) {
            const float *tile = task->centres + t * task->d * vectors * LANES;
            for (int64_t r = 0; r < rows; r++) {
                const int32_t *ends = work->ends + r * (work->chunks + 1) + c;
                float *products = work->scores + r * work->width + t * vectors * LANES;
                multiply(block + r * task->d, work->columns + ends[0], ends[1] - ends[0], tile, vectors, products);
            }
        }
    }
}

/* The same, each number of vectors by a function of its own. */
INLINE void multiply_block(const Task *task, const Work *work, const float *block, int64_t rows) {
#define CASE(vectors) \
    case vectors: \
        multiply_all(task, work, block, rows, vectors); \
        break
    switch (task->vectors) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
        CASE(13);
    }
#undef CASE
}

/* The sum of (x - y)², in several sums, as one would wait for each addition; y is NULL for zero. */
INLINE float square_of(const float *x, const float *y, int64_t d) {
    float parts[4 * LANES] = {0}, sum = 0;
    int64_t j = 0;
    for (; j + 4 * LANES <= d; j += 4 * LANES) {
        for (int i = 0; i < 4 * LANES; i++) {
            float difference = y == NULL ? x[j + i] : x[j + i] - y[j + i];
            parts[i] += difference * difference;
        }
    }
    for (; j < d; j++) {
        float difference = y == NULL ? x[j] : x[j] - y[j];
        sum += difference * difference;
    }
    for (int i = 0; i < 4 * LANES; i++)
        sum += parts[i];
    return sum;
}

/* The closest centre of a row, the first of several; as NumPy has it, the first whose score is no number. */
INLINE int64_t closest(float *restrict scores, const float *restrict norms, int64_t k) {
    float least[LANES];
    int32_t strange = 0;
    for (int64_t j = 0; j < k; j++) {
        scores[j] = norms[j] - 2 * scores[j];
        strange |= scores[j] != scores[j];
    }
    int64_t at = 0, j = 0;
    if (strange) {
        while (scores[at] == scores[at])
            at++;
        return at;
    }
    for (int i = 0; i < LANES; i++)
        least[i] = INFINITY;
    for (; j + LANES <= k; j += LANES)
        for (int i = 0; i < LANES; i++)
            least[i] = scores[j + i] < least[i] ? scores[j + i] : least[i];
    for (; j < k; j++)
        least[0] = scores[j] < least[0] ? scores[j] : least[0];
    for (int i = 1; i < LANES; i++)
        least[0] = least[i] < least[0] ? least[i] : least[0];
    while (scores[at] != least[0])
        at++;
    return at;
}

/* Labels and squared distances of some rows, as many as a block has at most. */
INLINE void compare(const Task *task, Work *work, int64_t start, int64_t rows) {
    const float *block = task->rows + start * task->d;
    float squares[BLOCK];
    int32_t many = 0;
    for (int64_t r = 0; r < rows; r++) {
        many = list(work, block + r * task->d, task->d, many, work->ends + r * (work->chunks + 1));
        squares[r] = square_of(block + r * task->d, NULL, task->d);
    }
    memset(work->scores, 0, (size_t)(rows * work->width) * sizeof *work->scores);
    multiply_block(task, work, block, rows);
    for (int64_t r = 0; r < rows; r++) {
        float *scores = work->scores + r * work->width;
        int64_t label = closest(scores, task->norms, task->k);
        float squared = scores[label] + squares[r];
        task->labels[start + r] = label;
        task->squared[start + r] = squared < 0 ? 0 : squared;
    }
}

/* Add these rows to the sums of their centres. */
INLINE void add(const Task *task, int64_t start, int64_t rows, float *sums) {
    int64_t d = task->d;
    for (int64_t r = start; r < start + rows; r++) {
        const float *restrict row = task->rows + r * d;
        float *restrict sum = sums + task->labels[r] * d;
        for (int64_t j = 0; j < d; j++)
            sum[j] += row[j];
        task->counts[task->labels[r]] += 1;
    }
}

INLINE void widen(float *restrict sums, int64_t many, double *restrict wide) {
    for (int64_t j = 0; j < many; j++) {
        wide[j] += sums[j];
        sums[j] = 0;
    }
}

WIDE static void assign(const Task *task, Work *work) {
    for (int64_t start = 0, rows, added = 0; start < task->n; start += rows) {
        rows = task->n - start < work->block ? task->n - start : work->block;
        compare(task, work, start, rows);
        if (task->sums == NULL)
            continue;
        add(task, start, rows, work->sums);
        added += rows;
        if (added >= TOGETHER || start + rows == task->n) {
            widen(work->sums, task->k * task->d, task->sums);
            added = 0;
        }
    }
}

WIDE static void measure(
    const float *rows, const float *centres, const int64_t *labels, int64_t n, int64_t d, float *squared) {
    for (int64_t r = 0; r < n; r++)
        squared[r] = square_of(rows + r * d, centres + labels[r] * d, d);
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

/* What a task is about, of rows (n × d), centres (tiles × d × width) and norms (k); no rows and -1 tiles where these do not
 * fit one another. */
static Task task_of(const Py_buffer *views, long long d, long long width) {
    int64_t n = whole_rows(&views[0], d), k = views[2].len / 4;
    bool fitting = n >= 0 && d < INT32_MAX - LANES && k > 0 && width > 0 && width <= VECTORS * LANES && width % LANES == 0;
    int64_t tiles = fitting ? (k + width - 1) / width : -1;
    if (!fitting || whole_rows(&views[1], d) < tiles * width)
        return (Task){.tiles = -1};
    return (Task){
        .rows = views[0].buf, .centres = views[1].buf, .norms = views[2].buf,
        .n = n, .d = d, .k = k, .tiles = tiles, .vectors = (int)(width / LANES),
    };
}

/* kmeans_assign(rows (n × d), centres (tiles × d × width), norms (k), labels (n), squared (n), sums (k × d), counts (k), d,
 * width): the closest centres and the squared distances to them. Rows are added to the sums, and their numbers to the
 * counts, both float64, unless there are no counts. */
KERNEL(kmeans_assign) {
    Py_buffer views[7];
    if (miscounted(count, 9))
        return NULL;
    long long d = PyLong_AsLongLong(given[7]), width = PyLong_AsLongLong(given[8]);
    if (PyErr_Occurred() || take(given, views, 7, 4))
        return NULL;
    Task task = task_of(views, d, width);
    bool summed = views[6].len > 0;
    task.labels = views[3].buf;
    task.squared = views[4].buf;
    task.sums = summed ? views[5].buf : NULL;
    task.counts = views[6].buf;
    Work work = {0};
    PyObject *result = NULL;
    if (task.tiles < 0 || views[3].len / 8 < task.n || views[4].len / 4 < task.n ||
        (summed && (views[5].len / 8 / d < task.k || views[6].len / 8 < task.k)))
        too_short();
    else if (!room(&task, &work))
        PyErr_NoMemory();
    else {
        Py_BEGIN_ALLOW_THREADS;
        assign(&task, &work);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    leave(&work);
    give_back(views, 7);
    return result;
}

/* kmeans_answers(rows (n × d), centres (tiles × d × width), norms (k), the same centres (k × d), closest (n), distances (n),
 * d, width): the closest centres, as float32, and the distances to them, from the differences. */
KERNEL(kmeans_answers) {
    Py_buffer views[6];
    if (miscounted(count, 8))
        return NULL;
    long long d = PyLong_AsLongLong(given[6]), width = PyLong_AsLongLong(given[7]);
    if (PyErr_Occurred() || take(given, views, 6, 4))
        return NULL;
    Task task = task_of(views, d, width);
    float *closest = views[4].buf, *distances = task.squared = views[5].buf;
    Work work = {0};
    PyObject *result = NULL;
    if (task.tiles < 0 || whole_rows(&views[3], d) < task.k || views[4].len / 4 < task.n || views[5].len / 4 < task.n)
        too_short();
    else if ((task.labels = malloc((size_t)task.n * sizeof *task.labels + 1)) == NULL || !room(&task, &work))
        PyErr_NoMemory();
    else {
        Py_BEGIN_ALLOW_THREADS;
        assign(&task, &work);
        measure(task.rows, views[3].buf, task.labels, task.n, d, distances);
        for (int64_t i = 0; i < task.n; i++) {
            closest[i] = (float)task.labels[i];
            distances[i] = sqrtf(distances[i]);
        }
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    leave(&work);
    free(task.labels);
    give_back(views, 6);
    return result;
}

/* kmeans_distances(rows (n × d), centres (k × d), labels (n), squared (n), d): squared distances to these centres, from
 * the differences. */
KERNEL(kmeans_distances) {
    Py_buffer views[4];
    if (miscounted(count, 5))
        return NULL;
    long long d = PyLong_AsLongLong(given[4]);
    if ((d == -1 && PyErr_Occurred()) || take(given, views, 4, 1))
        return NULL;
    int64_t n = whole_rows(&views[0], d), k = whole_rows(&views[1], d);
    const int64_t *labels = views[2].buf;
    bool wrong = n < 0 || views[2].len / 8 < n || views[3].len / 4 < n;
    for (int64_t i = 0; i < n && !wrong; i++)
        wrong = (uint64_t)labels[i] >= (uint64_t)k;
    PyObject *result = NULL;
    if (wrong)
        outside();
    else {
        Py_BEGIN_ALLOW_THREADS;
        measure(views[0].buf, views[1].buf, labels, n, d, views[3].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 4);
    return result;
}
