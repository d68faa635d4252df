/* Convolutions that keep the grid, and the gradient of their weights, by Fourier transforms of tiles.
 *
 * The image is cut into tiles. Each, with the voxels around it that the kernel reaches, is transformed over
 * 12 points an axis, where a convolution is a product, summed over channels, at each wave number. Transformed
 * back, the voxels of the tile are those that no wrapped-around value has entered (overlap-save; Mathieu,
 * Henaff & LeCun 2013, arXiv 1312.5851). A kernel of 5^3 then takes a sixteenth of the multiplications, and
 * rounding does not add up along its 125 products.
 *
 * Images are [batch][channels][X][Y][Z] in float32, weights [out][in][X][Y][Z]. Two axes are three, the first
 * of one voxel and with a kernel of one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Points of a transform; the last axis is real, so that beyond half of its points all is conjugate. */
enum { POINTS = 12, HALF = POINTS / 2 + 1, MOST_BINS = POINTS * POINTS * HALF };

/* Channels in a row, as many as one instruction takes. */
#if defined(__AVX512F__)
enum { WIDTH = 16 };
#elif defined(__AVX__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif

/* Tiles that are multiplied and transformed together; channels whose products are summed together; bytes that
 * the spectra of all these may take, so that they stay in the cache. */
enum { GROUP = 8, CHUNK = 32, CACHE = 1 << 24 };

/* Sums that are kept in registers. */
enum { TOGETHER = 4 };

typedef float Row __attribute__((vector_size(WIDTH * sizeof(float)), may_alias));

/* A complex number for each channel of a row: one wave number of a transform. */
typedef struct { Row re, im; } Bin;

typedef struct {
    /* Of an axis: voxels, those of a kernel and of a tile; points of a transform; tiles. */
    int64_t grid[3], kernel[3], tile[3], points[3], tiles[3];
    int64_t num_tiles, num_groups, groups_at_once, num_bins, chunk_rows;
} Plan;

static int64_t at_most(int64_t value, int64_t limit) { return value < limit ? value : limit; }
static int64_t at_least(int64_t value, int64_t limit) { return value > limit ? value : limit; }

static int64_t rows_of(int64_t channels) { return (channels + WIDTH - 1) / WIDTH; }

static Plan make_plan(int64_t batch, int64_t in_channels, const int64_t *grid, const int64_t *kernel)
{
    Plan plan = {.num_tiles = batch, .num_bins = HALF};
    for (int axis = 0; axis < 3; axis++) {
        int is_flat = axis == 0 && kernel[axis] == 1;
        plan.grid[axis] = grid[axis];
        plan.kernel[axis] = kernel[axis];
        plan.points[axis] = is_flat ? 1 : POINTS;
        plan.tile[axis] = plan.points[axis] + 1 - kernel[axis];
        plan.tiles[axis] = (grid[axis] + plan.tile[axis] - 1) / plan.tile[axis];
        plan.num_tiles *= plan.tiles[axis];
    }
    plan.num_bins *= plan.points[0] * plan.points[1];
    plan.chunk_rows = rows_of(at_most(in_channels, CHUNK));
    plan.num_groups = (plan.num_tiles + GROUP - 1) / GROUP;
    int64_t group_bytes = plan.num_bins * GROUP * plan.chunk_rows * sizeof(Bin);
    plan.groups_at_once = at_most(at_least(CACHE / group_bytes, 1), plan.num_groups);
    return plan;
}

/* Transform of 12 complex numbers, in place: the prime-factor algorithm (Good 1958), three by four and without
 * twiddle factors. `sign` is 1 forward and -1 back, where the result is 12 times too large. */
static inline void transform(Bin *line, int64_t stride, float sign)
{
    Bin part[3][4];
    const float sine = sign * 0.866025403784438647f;
    for (int j = 0; j < 4; j++) {
        Bin x = line[3 * j % 12 * stride], y = line[(3 * j + 4) % 12 * stride];
        Bin z = line[(3 * j + 8) % 12 * stride];
        Row sum_re = y.re + z.re, turn_re = sine * (y.im - z.im), rest_re = x.re - 0.5f * sum_re;
        Row sum_im = y.im + z.im, turn_im = sine * (z.re - y.re), rest_im = x.im - 0.5f * sum_im;
        part[0][j] = (Bin){x.re + sum_re, x.im + sum_im};
        part[1][j] = (Bin){rest_re + turn_re, rest_im + turn_im};
        part[2][j] = (Bin){rest_re - turn_re, rest_im - turn_im};
    }
    for (int i = 0; i < 3; i++) {
        const Bin *x = part[i];
        Row even_re = x[0].re + x[2].re, odd_re = x[0].re - x[2].re;
        Row even_im = x[0].im + x[2].im, odd_im = x[0].im - x[2].im;
        Row sum_re = x[1].re + x[3].re, gap_re = sign * (x[1].re - x[3].re);
        Row sum_im = x[1].im + x[3].im, gap_im = sign * (x[1].im - x[3].im);
        line[4 * i % 12 * stride] = (Bin){even_re + sum_re, even_im + sum_im};
        line[(4 * i + 9) % 12 * stride] = (Bin){odd_re + gap_im, odd_im - gap_re};
        line[(4 * i + 18) % 12 * stride] = (Bin){even_re - sum_re, even_im - sum_im};
        line[(4 * i + 27) % 12 * stride] = (Bin){odd_re - gap_im, odd_im + gap_re};
    }
}

/* A box of voxels; those outside the image are zero. */
typedef struct { int64_t start[3], size[3]; } Box;

/* Transform a box of up to WIDTH channels, followed by zeros, to bins [points][points][HALF]. */
static void to_bins(const float *image, const int64_t *grid, int64_t channel_stride, int64_t channels,
                    const Box *box, const int64_t *points, float sign, Bin *bins)
{
    int64_t begin[3], end[3];
    for (int axis = 0; axis < 3; axis++) {
        int64_t inside = grid[axis] - box->start[axis];
        begin[axis] = box->start[axis] < 0 ? -box->start[axis] : 0;
        end[axis] = inside < box->size[axis] ? inside : box->size[axis];
    }
    memset(bins, 0, points[0] * points[1] * HALF * sizeof(Bin));
    for (int64_t i = begin[0]; i < end[0]; i++)
        for (int64_t j = begin[1]; j < end[1]; j++) {
            Bin line[POINTS];
            memset(line, 0, sizeof line);
            const float *row =
                image + ((box->start[0] + i) * grid[1] + box->start[1] + j) * grid[2] + box->start[2];
            for (int64_t channel = 0; channel < channels; channel++)
                for (int64_t k = begin[2]; k < end[2]; k++)
                    line[k].re[channel] = row[channel * channel_stride + k];
            transform(line, 1, sign);
            memcpy(bins + (i * points[1] + j) * HALF, line, HALF * sizeof(Bin));
        }
    for (int64_t i = begin[0]; i < end[0]; i++)
        for (int k = 0; k < HALF; k++)
            transform(bins + i * points[1] * HALF + k, HALF, sign);
    if (points[0] > 1)
        for (int64_t k = 0; k < points[1] * HALF; k++)
            transform(bins + k, points[1] * HALF, sign);
}

/* Transform bins back, and add the first voxels of each axis to the image, or to the bias if there is one. */
static void from_bins(Bin *bins, const int64_t *points, const int64_t *size, const float *bias, float *image,
                      int64_t stride_0, int64_t stride_1, int64_t channel_stride, int64_t channels)
{
    const float scale = 1.0f / (points[0] * points[1] * POINTS);
    if (points[0] > 1)
        for (int64_t k = 0; k < points[1] * HALF; k++)
            transform(bins + k, points[1] * HALF, -1);
    for (int64_t i = 0; i < size[0]; i++) {
        Bin *plane = bins + i * points[1] * HALF;
        for (int k = 0; k < HALF; k++)
            transform(plane + k, HALF, -1);
        for (int64_t j = 0; j < size[1]; j++) {
            Bin line[POINTS];
            memcpy(line, plane + j * HALF, HALF * sizeof(Bin));
            for (int k = HALF; k < POINTS; k++)
                line[k] = (Bin){line[POINTS - k].re, -line[POINTS - k].im};
            transform(line, 1, -1);
            float *row = image + i * stride_0 + j * stride_1;
            for (int64_t channel = 0; channel < channels; channel++)
                for (int64_t k = 0; k < size[2]; k++) {
                    float *voxel = row + channel * channel_stride + k;
                    *voxel = (bias ? bias[channel] : *voxel) + scale * line[k].re[channel];
                }
        }
    }
}

/* Find the first voxel of a tile; returns the sample that it is of. */
static int64_t locate(const Plan *plan, int64_t number, int64_t *origin)
{
    for (int axis = 2; axis >= 0; axis--) {
        origin[axis] = number % plan->tiles[axis] * plan->tile[axis];
        number /= plan->tiles[axis];
    }
    return number;
}

/* Rows of a group of tiles at one bin. */
static inline int64_t bin_size(const Plan *plan) { return GROUP * 2 * plan->chunk_rows; }

/* Spectra of some channels of some groups of tiles, with the voxels around them that the kernel reaches:
 * [group][bin][tile of the group][real, imaginary][row of channels]. The threads of a team share the work. */
static void to_spectra(const float *image, const Plan *plan, int64_t in_channels, int64_t first,
                       int64_t first_group, int64_t end_group, Row *spectra)
{
    int64_t num_voxels = plan->grid[0] * plan->grid[1] * plan->grid[2];
    int64_t count = at_most(in_channels - first, CHUNK), num_rows = rows_of(count);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < (end_group - first_group) * GROUP * num_rows; item++) {
        Bin bins[MOST_BINS];
        int64_t place = item / num_rows, row = item % num_rows, number = first_group * GROUP + place;
        if (number < plan->num_tiles) {
            Box box;
            int64_t sample = locate(plan, number, box.start);
            for (int axis = 0; axis < 3; axis++) {
                box.start[axis] -= plan->kernel[axis] / 2;
                box.size[axis] = plan->points[axis];
            }
            to_bins(image + (sample * in_channels + first + row * WIDTH) * num_voxels, plan->grid, num_voxels,
                    at_most(count - row * WIDTH, WIDTH), &box, plan->points, 1, bins);
        } else
            memset(bins, 0, sizeof bins);
        Row *to = spectra + place / GROUP * plan->num_bins * bin_size(plan)
                  + place % GROUP * 2 * plan->chunk_rows + row;
        for (int64_t bin = 0; bin < plan->num_bins; bin++, to += bin_size(plan)) {
            to[0] = bins[bin].re;
            to[plan->chunk_rows] = bins[bin].im;
        }
    }
}

/* At one bin of a group of tiles, add the products of spectra and weights, over some channels, to the sums. */
static inline void multiply(const float *spectra, int64_t chunk_rows, const Bin *weights, int64_t channels,
                            int is_first, Bin *sums, int64_t stride)
{
    int64_t imaginary = chunk_rows * WIDTH;
    for (int first = 0; first < GROUP; first += TOGETHER) {
        const float *values = spectra + first * 2 * imaginary;
        Bin sum[TOGETHER];
        for (int tile = 0; tile < TOGETHER; tile++)
            sum[tile] = is_first ? (Bin){{0}, {0}} : sums[(first + tile) * stride];
        for (int64_t c = 0; c < channels; c++) {
            Row re = weights[c].re, im = weights[c].im;
            for (int tile = 0; tile < TOGETHER; tile++) {
                float a = values[2 * tile * imaginary + c], b = values[(2 * tile + 1) * imaginary + c];
                sum[tile].re += a * re;
                sum[tile].im += a * im;
                sum[tile].re -= b * im;
                sum[tile].im += b * re;
            }
        }
        for (int tile = 0; tile < TOGETHER; tile++)
            sums[(first + tile) * stride] = sum[tile];
    }
}

static void *reserve(int64_t size) { return aligned_alloc(64, (size + 63) / 64 * 64); }

/* Conjugate spectra of the kernels from a chunk of channels, that begins at `first`, to a row, that begins at
 * `to`: [bin][channel]. */
static void weights_to_bins(const float *weight, const Plan *plan, int64_t in_channels, int64_t out_channels,
                            int64_t first, int64_t to, Bin *weights)
{
    const Box box = {.size = {plan->kernel[0], plan->kernel[1], plan->kernel[2]}};
    int64_t num_weights = box.size[0] * box.size[1] * box.size[2], count = at_most(in_channels - first, CHUNK);
    for (int64_t c = 0; c < count; c++) {
        Bin bins[MOST_BINS];
        to_bins(weight + (to * in_channels + first + c) * num_weights, plan->kernel, in_channels * num_weights,
                at_most(out_channels - to, WIDTH), &box, plan->points, -1, bins);
        for (int64_t bin = 0; bin < plan->num_bins; bin++)
            weights[bin * count + c] = bins[bin];
    }
}

/* Transform back a group of tiles of a row of channels that begins at `first`. */
static void store_group(Bin *bins, const Plan *plan, int64_t group, int64_t first, int64_t out_channels,
                        const float *bias, float *result)
{
    const int64_t *grid = plan->grid;
    for (int64_t tile = 0; tile < at_most(plan->num_tiles - group * GROUP, GROUP); tile++) {
        int64_t origin[3], size[3], sample = locate(plan, group * GROUP + tile, origin);
        for (int axis = 0; axis < 3; axis++)
            size[axis] = at_most(grid[axis] - origin[axis], plan->tile[axis]);
        float *channel = result + (sample * out_channels + first) * grid[0] * grid[1] * grid[2];
        from_bins(bins + tile * plan->num_bins, plan->points, size, bias ? bias + first : 0,
                  channel + (origin[0] * grid[1] + origin[1]) * grid[2] + origin[2], grid[1] * grid[2],
                  grid[2], grid[0] * grid[1] * grid[2], at_most(out_channels - first, WIDTH));
    }
}

/* Convolve; tells whether there was memory. */
int convolve(const float *image, const float *weight, const float *bias, int64_t batch, int64_t in_channels,
             int64_t out_channels, const int64_t *grid, const int64_t *kernel, int num_threads, float *result)
{
    const Plan plan = make_plan(batch, in_channels, grid, kernel);
    int64_t num_rows = rows_of(out_channels), at_once = plan.groups_at_once;
    int64_t group_size = GROUP * plan.num_bins;
    /* Where there are too few rows of channels for all threads, each is made for some of the groups only. */
    int64_t parts = at_most((num_threads + num_rows - 1) / num_rows, at_once);
    int is_whole = in_channels <= CHUNK, failed = 0;
    Row *spectra = reserve(at_once * plan.num_bins * bin_size(&plan) * sizeof(Row));
    Bin *sums = is_whole ? 0 : reserve(num_rows * at_once * group_size * sizeof(Bin));
#pragma omp parallel num_threads(num_threads) reduction(| : failed)
    {
        Bin *weights = reserve(plan.num_bins * CHUNK * sizeof(Bin));
        Bin *products = is_whole ? reserve(group_size * sizeof(Bin)) : 0;
        failed = !spectra || !weights || (is_whole ? !products : !sums);
        for (int64_t begin = 0; begin < plan.num_groups && spectra; begin += at_once)
            for (int64_t first = 0; first < in_channels; first += CHUNK) {
                int64_t groups = at_most(plan.num_groups - begin, at_once);
                int64_t count = at_most(in_channels - first, CHUNK);
                to_spectra(image, &plan, in_channels, first, begin, begin + groups, spectra);
#pragma omp for schedule(dynamic)
                for (int64_t item = 0; item < num_rows * parts; item++) {
                    int64_t row = item / parts, part = item % parts;
                    if (failed)
                        continue;
                    weights_to_bins(weight, &plan, in_channels, out_channels, first, row * WIDTH, weights);
                    for (int64_t group = groups * part / parts; group < groups * (part + 1) / parts; group++) {
                        Bin *sum = is_whole ? products : sums + (row * at_once + group) * group_size;
                        for (int64_t bin = 0; bin < plan.num_bins; bin++)
                            multiply((float *)(spectra + (group * plan.num_bins + bin) * bin_size(&plan)),
                                     plan.chunk_rows, weights + bin * count, count, first == 0, sum + bin,
                                     plan.num_bins);
                        if (first + count == in_channels)
                            store_group(sum, &plan, begin + group, row * WIDTH, out_channels, bias, result);
                    }
                }
            }
        free(weights);
        free(products);
    }
    free(spectra);
    free(sums);
    return !failed;
}

/* At one bin of a group of tiles, add to the spectrum of the weights' gradient, for a row of its channels. */
static inline void accumulate(const float *spectra, int64_t chunk_rows, const Bin *gradients, int64_t stride,
                              int64_t channels, Bin *sums)
{
    int64_t imaginary = chunk_rows * WIDTH;
    Bin gradient[GROUP];
    for (int tile = 0; tile < GROUP; tile++)
        gradient[tile] = gradients[tile * stride];
    for (int64_t first = 0; first < channels; first += TOGETHER) {
        Bin sum[TOGETHER];
        for (int i = 0; i < TOGETHER; i++)
            sum[i] = sums[first + i];
        for (int tile = 0; tile < GROUP; tile++)
            for (int i = 0; i < TOGETHER; i++) {
                float a = spectra[2 * tile * imaginary + first + i];
                float b = spectra[(2 * tile + 1) * imaginary + first + i];
                sum[i].re += a * gradient[tile].re;
                sum[i].im += b * gradient[tile].re;
                sum[i].re += b * gradient[tile].im;
                sum[i].im -= a * gradient[tile].im;
            }
        for (int i = 0; i < TOGETHER; i++)
            sums[first + i] = sum[i];
    }
}

/* Spectra of a group of tiles of a row of channels: [tile][bin]. */
static void load_group(const float *gradient, const Plan *plan, int64_t group, int64_t first,
                       int64_t out_channels, Bin *gradients)
{
    int64_t num_voxels = plan->grid[0] * plan->grid[1] * plan->grid[2];
    int64_t count = at_most(plan->num_tiles - group * GROUP, GROUP);
    for (int64_t tile = 0; tile < count; tile++) {
        Box box = {.size = {plan->tile[0], plan->tile[1], plan->tile[2]}};
        int64_t sample = locate(plan, group * GROUP + tile, box.start);
        to_bins(gradient + (sample * out_channels + first) * num_voxels, plan->grid, num_voxels,
                at_most(out_channels - first, WIDTH), &box, plan->points, 1,
                gradients + tile * plan->num_bins);
    }
    memset(gradients + count * plan->num_bins, 0, (GROUP - count) * plan->num_bins * sizeof(Bin));
}

/* Add the gradient of the weights, from that of a convolution's result; tells whether there was memory. */
int add_weight_gradient(const float *image, const float *gradient, int64_t batch, int64_t in_channels,
                        int64_t out_channels, const int64_t *grid, const int64_t *kernel, int num_threads,
                        float *result)
{
    const Plan plan = make_plan(batch, in_channels, grid, kernel);
    int64_t num_weights = kernel[0] * kernel[1] * kernel[2];
    int64_t num_rows = rows_of(out_channels), at_once = plan.groups_at_once;
    int failed = 0;
    Row *spectra = reserve(at_once * plan.num_bins * bin_size(&plan) * sizeof(Row));
#pragma omp parallel num_threads(num_threads) reduction(| : failed)
    {
        Bin *sums = reserve(plan.num_bins * CHUNK * sizeof(Bin));
        Bin *gradients = reserve(GROUP * plan.num_bins * sizeof(Bin));
        failed = !spectra || !sums || !gradients;
        for (int64_t begin = 0; begin < plan.num_groups && spectra; begin += at_once)
            for (int64_t first = 0; first < in_channels; first += CHUNK) {
                int64_t groups = at_most(plan.num_groups - begin, at_once);
                int64_t count = at_most(in_channels - first, CHUNK);
                /* As for the convolution, but each is made for some of the channels only. */
                int64_t fours = (count + TOGETHER - 1) / TOGETHER;
                int64_t parts = at_most((num_threads + num_rows - 1) / num_rows, fours);
                to_spectra(image, &plan, in_channels, first, begin, begin + groups, spectra);
#pragma omp for schedule(dynamic)
                for (int64_t item = 0; item < num_rows * parts; item++) {
                    int64_t row = item / parts, part = item % parts;
                    int64_t from = fours * part / parts * TOGETHER;
                    int64_t some = fours * (part + 1) / parts * TOGETHER - from;
                    if (failed)
                        continue;
                    memset(sums, 0, plan.num_bins * some * sizeof(Bin));
                    for (int64_t group = 0; group < groups; group++) {
                        load_group(gradient, &plan, begin + group, row * WIDTH, out_channels, gradients);
                        for (int64_t bin = 0; bin < plan.num_bins; bin++) {
                            const Row *values = spectra + (group * plan.num_bins + bin) * bin_size(&plan);
                            accumulate((const float *)values + from, plan.chunk_rows, gradients + bin,
                                       plan.num_bins, some, sums + bin * some);
                        }
                    }
                    /* Rows are full: what is beyond the last channel was computed, and is left. */
                    for (int64_t c = 0; c < at_most(some, count - from); c++) {
                        for (int64_t bin = 0; bin < plan.num_bins; bin++)
                            gradients[bin] = sums[bin * some + c];
                        from_bins(gradients, plan.points, kernel, 0,
                                  result + (row * WIDTH * in_channels + first + from + c) * num_weights,
                                  kernel[1] * kernel[2], kernel[2], in_channels * num_weights,
                                  at_most(out_channels - row * WIDTH, WIDTH));
                    }
                }
            }
        free(sums);
        free(gradients);
    }
    free(spectra);
    return !failed;
}
