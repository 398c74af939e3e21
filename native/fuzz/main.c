/* Fuzzing of the kernels that read bytes from outside, without Python: to be built with sanitizers, which end it at the
 * first wrong step.
 *
 *     fuzz SECONDS SEED FILE...
 *
 * Every kernel gets every file, and then, until the time is over, files drawn and changed at random.
 * An input that ends badly is left behind in the file `crash`, and can be given as the only FILE, with 0 SECONDS.
 *
 * To add a kernel, write a Target here, and list it.
 */
#include "../csv_core.h"
#include "../libsvm_core.h"
#include "../recordio_core.h"

#include <sanitizer/common_interface_defs.h>
#include <stdio.h>
#include <time.h>

enum { LARGEST_FILE = 1 << 16, MOST_CHANGES = 8 };

/* Reads an input, which is exactly as large as its memory. */
typedef void Target(const uint8_t *bytes, size_t size);

typedef struct {
    uint8_t *bytes;
    size_t size;
} Input;

/* Memory of exactly this size, so that one more byte is one too many; never none. */
static void *memory(size_t count, size_t item) {
    size_t size = count * item;
    void *got = malloc(size ? size : 1);
    if (!got) {
        fputs("no memory\n", stderr);
        exit(2);
    }
    return got;
}

/* Targets. */

static void read_csv(const uint8_t *bytes, size_t size) {
    if (!size || bytes[size - 1] != '\n')
        return;
    for (const char *delimiter = ",\t;|"; *delimiter; delimiter++) {
        CsvShape shape = csv_shape_of(bytes, size, (uint8_t)*delimiter);
        for (size_t labels = 0; labels < 3 && labels < shape.width; labels++) {
            CsvTable table = {.rows = shape.rows, .width = shape.width, .labels = labels};
            table.label = memory(shape.rows * labels, sizeof(float));
            table.feature = memory(shape.rows * (shape.width - labels), sizeof(float));
            csv_parse(bytes, size, (uint8_t)*delimiter, &table);
            free(table.label);
            free(table.feature);
        }
    }
}

static void read_libsvm(const uint8_t *bytes, size_t size) {
    if (!size || bytes[size - 1] != '\n')
        return;
    for (int labelled = 0; labelled < 2; labelled++) {
        LibsvmRows rows = {.first = labelled, .columns = -1, .labelled = labelled};
        rows.most_rows = occurrences(bytes, size, '\n');
        rows.most_values = occurrences(bytes, size, ':');
        rows.labels = memory(rows.most_rows, sizeof(float));
        rows.borders = memory(rows.most_rows + 1, sizeof(int64_t));
        rows.indices = memory(rows.most_values, sizeof(int64_t));
        rows.values = memory(rows.most_values, sizeof(float));
        libsvm_parse(bytes, size, &rows);
        free(rows.labels);
        free(rows.borders);
        free(rows.indices);
        free(rows.values);
    }
}

/* Run after run, as long as there is one; with room for all, and with too little. */
static void read_recordio(const uint8_t *bytes, size_t size) {
    for (size_t room = size; room; room = room > 3 ? 3 : 0) {
        RecordRows rows = {.block = {bytes, size}, .most_rows = room, .most_values = room, .most_labels = room};
        rows.labels = memory(room, 8);
        rows.borders = memory(room + 1, sizeof(int64_t));
        rows.indices = memory(room, sizeof(int64_t));
        rows.values = memory(room, 8);
        for (size_t at = 0; recordio_run(&rows, at); at = rows.end) {
            bool inside = rows.end > at && rows.end <= size && rows.rows <= room && rows.count <= room;
            const Form form = rows.form;
            if (form.place) /* the last row, too, lies within the block */
                inside &= at + (rows.rows - 1) * form.stride + form.place + form.count * item_size(form.kind) <= rows.end;
            for (size_t i = 0; form.sparse && i < rows.count; i++)
                inside &= rows.indices[i] >= 0 && rows.indices[i] < form.shape;
            if (!inside)
                abort();
        }
        free(rows.labels);
        free(rows.borders);
        free(rows.indices);
        free(rows.values);
    }
}

static Target *const targets[] = {
    read_csv,
    read_libsvm,
    read_recordio,
};
enum { TARGETS = sizeof targets / sizeof *targets };

/* Inputs. */

static uint64_t state;

/* A number below `limit`, from a generator of the kind xorshift. */
static size_t below(size_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit ? (size_t)(state >> 11) % limit : 0;
}

static bool load(const char *name, Input *input) {
    FILE *file = fopen(name, "rb");
    if (!file) {
        perror(name);
        return false;
    }
    input->bytes = memory(LARGEST_FILE, 1);
    input->size = fread(input->bytes, 1, LARGEST_FILE, file);
    fclose(file);
    return true;
}

/* Change an input a little; it has room for LARGEST_FILE bytes. */
static void change(Input *input, const Input *other) {
    static const char telling[] = "0123456789.-+eE,;:|\t \r\n\"#naif\x00\x12\x1A\x7F\x80\xFF";
    size_t at = below(input->size), length = 1 + below(below(8) ? 8 : 300);
    if (length > input->size - at)
        length = input->size - at;
    switch (below(7)) {
    case 0: /* a bit */
        if (input->size)
            input->bytes[at] ^= (uint8_t)(1 << below(8));
        break;
    case 1: /* a byte that may mean something */
        if (input->size)
            input->bytes[at] = (uint8_t)telling[below(sizeof telling - 1)];
        break;
    case 2: /* a stretch of one byte */
        memset(input->bytes + at, telling[below(sizeof telling - 1)], length);
        break;
    case 3: /* less */
        memmove(input->bytes + at, input->bytes + at + length, input->size - at - length);
        input->size -= length;
        break;
    case 4: /* the same twice */
        if (length <= LARGEST_FILE - input->size) {
            memmove(input->bytes + at + length, input->bytes + at, input->size - at);
            input->size += length;
        }
        break;
    case 5: /* a piece of another file */
        if (length > other->size)
            length = other->size;
        memmove(input->bytes + at, other->bytes + below(other->size - length + 1), length);
        break;
    default: /* an end */
        input->size = at;
        if (input->size < LARGEST_FILE && below(2))
            input->bytes[input->size++] = '\n';
    }
}

static const Input *current;

/* What a sanitizer does before it ends the program. */
static void leave_behind(void) {
    FILE *file = fopen("crash", "wb");
    if (file) {
        fwrite(current->bytes, 1, current->size, file);
        fclose(file);
        fprintf(stderr, "the input is left behind in the file crash\n");
    }
}

/* Let every kernel read an input. */
static void try(const Input *input) {
    const Input exact = {memory(input->size, 1), input->size};
    memcpy(exact.bytes, input->bytes, input->size);
    current = input;
    for (size_t i = 0; i < TARGETS; i++)
        targets[i](exact.bytes, exact.size);
    free(exact.bytes);
}

int main(int count, char **words) {
    if (count < 4) {
        fputs("usage: fuzz SECONDS SEED FILE...\n", stderr);
        return 2;
    }
    __sanitizer_set_death_callback(leave_behind);
    const time_t end = time(NULL) + atol(words[1]);
    state = strtoull(words[2], NULL, 10) | 1;
    const size_t files = (size_t)count - 3;
    Input *inputs = memory(files, sizeof(Input)), changed = {memory(LARGEST_FILE, 1), 0};
    for (size_t i = 0; i < files; i++) {
        if (!load(words[i + 3], &inputs[i]))
            return 2;
        try(&inputs[i]);
    }
    long tries = 0;
    for (; time(NULL) < end; tries++) {
        const Input *input = &inputs[below(files)];
        changed.size = input->size;
        memcpy(changed.bytes, input->bytes, input->size);
        for (size_t changes = 1 + below(MOST_CHANGES); changes; changes--)
            change(&changed, &inputs[below(files)]);
        try(&changed);
    }
    printf("%zu files and %ld changed ones were read by %d kernels\n", files, tries, (int)TARGETS);
    for (size_t i = 0; i < files; i++)
        free(inputs[i].bytes);
    free(inputs);
    free(changed.bytes);
    return 0;
}
