/* The gas solver for CPUs: what `hydrodynamics.py` and `cooling.py` say in operations on whole tensors, in one
 * pass over memory. They have the equations with their sources; names are the same here.
 *
 * Gas is conserved variables [clouds][5][X][Y][Z] in float32: mass density, momentum density, energy density.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { MASS, NORMAL, FIRST, SECOND, ENERGY, NUM_VARIABLES, PRESSURE = ENERGY, NUM_GHOSTS = 3 };

/* Columns of cells, along the axis of a sweep, that are computed side by side. */
enum { WIDTH = 16 };

static const float PRESSURE_RESOLUTION = 1e-7f;
static const float SMALLEST_PRESSURE = 1e-30f;
static const float SMALLEST = 1.17549435e-38f;

typedef float Row[WIDTH];
typedef Row State[NUM_VARIABLES];

/* Where the first operand is not a number it is what these return, so that it is not lost. */
static inline float at_least(float value, float limit) { return limit > value ? limit : value; }
static inline float at_most(float value, float limit) { return limit < value ? limit : value; }

static inline float kinetic_energy_density(float mass, float x, float y, float z)
{
    return 0.5f * (x * x + y * y + z * z) / mass;
}

static inline float pressure_of(float energy, float kinetic, float gamma)
{
    return at_least((gamma - 1) * (energy - kinetic), PRESSURE_RESOLUTION * kinetic);
}

static void to_primitive(State *conserved, float gamma, State *primitive, Row *inverse_density)
{
    for (int i = 0; i < WIDTH; i++) {
        float density = (*conserved)[MASS][i], inverse = 1 / density;
        float normal = (*conserved)[NORMAL][i] * inverse;
        float first = (*conserved)[FIRST][i] * inverse;
        float second = (*conserved)[SECOND][i] * inverse;
        float kinetic = 0.5f * density * (normal * normal + first * first + second * second);
        float pressure = pressure_of((*conserved)[ENERGY][i], kinetic, gamma);
        (*primitive)[MASS][i] = density;
        (*primitive)[NORMAL][i] = normal;
        (*primitive)[FIRST][i] = first;
        (*primitive)[SECOND][i] = second;
        (*primitive)[PRESSURE][i] = at_least(pressure, SMALLEST_PRESSURE);
        (*inverse_density)[i] = inverse;
    }
}

static inline float van_leer_slope(float below, float centre, float above)
{
    float left = centre - below, right = above - centre;
    float left_size = fabsf(left), right_size = fabsf(right);
    return (left_size * right + left * right_size) / at_least(left_size + right_size, SMALLEST);
}

/* Both faces of a row of cells after half a step, from its neighbours. */
static void reconstruct(State *below, State *centre, State *above, Row *inverse_density,
                        float step_over_width, float gamma, State *lower, State *upper)
{
    float half = 0.5f * step_over_width;
    for (int i = 0; i < WIDTH; i++) {
        float slope[NUM_VARIABLES], evolved[NUM_VARIABLES];
        for (int v = 0; v < NUM_VARIABLES; v++)
            slope[v] = van_leer_slope((*below)[v][i], (*centre)[v][i], (*above)[v][i]);
        float density = (*centre)[MASS][i], normal = (*centre)[NORMAL][i], pressure = (*centre)[PRESSURE][i];
        evolved[MASS] = density - half * (normal * slope[MASS] + density * slope[NORMAL]);
        evolved[NORMAL] =
            normal - half * (normal * slope[NORMAL] + slope[PRESSURE] * (*inverse_density)[i]);
        evolved[FIRST] = (*centre)[FIRST][i] - half * (normal * slope[FIRST]);
        evolved[SECOND] = (*centre)[SECOND][i] - half * (normal * slope[SECOND]);
        evolved[PRESSURE] =
            pressure - half * (normal * slope[PRESSURE] + gamma * pressure * slope[NORMAL]);
        for (int v = 0; v < NUM_VARIABLES; v++) {
            (*upper)[v][i] = evolved[v] + 0.5f * slope[v];
            (*lower)[v][i] = evolved[v] - 0.5f * slope[v];
        }
        (*upper)[MASS][i] = at_least((*upper)[MASS][i], 0.01f * density);
        (*lower)[MASS][i] = at_least((*lower)[MASS][i], 0.01f * density);
        (*upper)[PRESSURE][i] = at_least((*upper)[PRESSURE][i], 0.01f * pressure);
        (*lower)[PRESSURE][i] = at_least((*lower)[PRESSURE][i], 0.01f * pressure);
    }
}

static void hllc_flux(State *left, State *right, float gamma, State *flux)
{
    float inverse_gamma_less_one = 1 / (gamma - 1);
    for (int i = 0; i < WIDTH; i++) {
        float normal_left = (*left)[NORMAL][i], normal_right = (*right)[NORMAL][i];
        float pressure_left = (*left)[PRESSURE][i], pressure_right = (*right)[PRESSURE][i];
        float sound_left = sqrtf(gamma * pressure_left / (*left)[MASS][i]);
        float sound_right = sqrtf(gamma * pressure_right / (*right)[MASS][i]);
        float slowest = at_most(normal_left - sound_left, normal_right - sound_right);
        float fastest = at_least(normal_left + sound_left, normal_right + sound_right);
        float mass_left = (*left)[MASS][i] * (slowest - normal_left);
        float mass_right = (*right)[MASS][i] * (fastest - normal_right);
        float contact = (pressure_right - pressure_left + normal_left * mass_left - normal_right * mass_right)
                        / (mass_left - mass_right);
        int is_left = contact >= 0;
        float density = is_left ? (*left)[MASS][i] : (*right)[MASS][i];
        float normal = is_left ? normal_left : normal_right;
        float first = is_left ? (*left)[FIRST][i] : (*right)[FIRST][i];
        float second = is_left ? (*left)[SECOND][i] : (*right)[SECOND][i];
        float pressure = is_left ? pressure_left : pressure_right;
        float outer = is_left ? slowest : fastest;
        float reach = is_left ? at_most(slowest, 0) : at_least(fastest, 0);
        float excess = reach * (contact - normal) / (outer - contact);
        float kinetic = 0.5f * density * (normal * normal + first * first + second * second);
        float enthalpy = pressure * inverse_gamma_less_one + kinetic + pressure;
        float mass = density * (normal + excess);
        (*flux)[MASS][i] = mass;
        (*flux)[NORMAL][i] = density * (normal * normal + excess * outer) + pressure;
        (*flux)[FIRST][i] = mass * first;
        (*flux)[SECOND][i] = mass * second;
        (*flux)[ENERGY][i] =
            enthalpy * (normal + excess) + excess * density * (outer - normal) * contact;
    }
}

static void hll_flux(State *below, State *above, float gamma, State *flux)
{
    State primitive[2], *sides[2] = {below, above};
    Row unused;
    for (int side = 0; side < 2; side++)
        to_primitive(sides[side], gamma, &primitive[side], &unused);
    for (int i = 0; i < WIDTH; i++) {
        float slowest = 0, fastest = 0, conserved[2][NUM_VARIABLES], through[2][NUM_VARIABLES];
        for (int side = 0; side < 2; side++) {
            float density = primitive[side][MASS][i], normal = primitive[side][NORMAL][i];
            float first = primitive[side][FIRST][i], second = primitive[side][SECOND][i];
            float pressure = primitive[side][PRESSURE][i], sound = sqrtf(gamma * pressure / density);
            slowest = at_most(slowest, normal - sound);
            fastest = at_least(fastest, normal + sound);
            float squared = normal * normal + first * first + second * second;
            conserved[side][MASS] = density;
            conserved[side][NORMAL] = density * normal;
            conserved[side][FIRST] = density * first;
            conserved[side][SECOND] = density * second;
            conserved[side][ENERGY] = pressure / (gamma - 1) + 0.5f * density * squared;
            for (int v = 0; v < NUM_VARIABLES; v++)
                through[side][v] = conserved[side][v] * normal;
            through[side][NORMAL] += pressure;
            through[side][ENERGY] += pressure * normal;
        }
        for (int v = 0; v < NUM_VARIABLES; v++)
            (*flux)[v][i] = (fastest * through[0][v] - slowest * through[1][v]
                             + slowest * fastest * (conserved[1][v] - conserved[0][v]))
                            / (fastest - slowest);
    }
}

/* Which of a row of cells would lose positivity, and whether any would. */
typedef struct {
    int cells[WIDTH], any;
} Lost;

/* A batch of columns in a thread's own memory: `length` rows of cells with their ghosts, and the fluxes through
 * the faces above rows 1 .. length - 3. */
typedef struct {
    State *cells, *fluxes;
    Lost *is_lost;
} Scratch;

static void advance_columns(Scratch scratch, int64_t length, float step_over_width, float gamma)
{
    State primitive[3], lower[2], upper[2];
    Row inverse_density[3];
    State *cells = scratch.cells, *fluxes = scratch.fluxes;
    for (int64_t row = 0; row < 2; row++)
        to_primitive(&cells[row], gamma, &primitive[row], &inverse_density[row]);
    for (int64_t row = 1; row < length - 1; row++) {
        int64_t above = (row + 1) % 3;
        to_primitive(&cells[row + 1], gamma, &primitive[above], &inverse_density[above]);
        reconstruct(&primitive[(row - 1) % 3], &primitive[row % 3], &primitive[above],
                    &inverse_density[row % 3], step_over_width, gamma, &lower[row % 2], &upper[row % 2]);
        if (row > 1)
            hllc_flux(&upper[(row - 1) % 2], &lower[row % 2], gamma, &fluxes[row - 1]);
    }

    for (int64_t row = 2; row < length - 2; row++) {
        int any_lost = 0;
        for (int i = 0; i < WIDTH; i++) {
            float updated[NUM_VARIABLES];
            for (int v = 0; v < NUM_VARIABLES; v++)
                updated[v] = cells[row][v][i]
                             - step_over_width * (fluxes[row][v][i] - fluxes[row - 1][v][i]);
            float squared = updated[NORMAL] * updated[NORMAL] + updated[FIRST] * updated[FIRST]
                            + updated[SECOND] * updated[SECOND];
            /* Written so that what is not a number counts as lost. */
            int is_lost = !((updated[MASS] > 0) & (2 * updated[MASS] * updated[ENERGY] > squared));
            scratch.is_lost[row].cells[i] = is_lost;
            any_lost |= is_lost;
        }
        scratch.is_lost[row].any = any_lost;
    }
    for (int64_t row = 2; row < length - 3; row++) {
        const Lost *below = &scratch.is_lost[row], *above = &scratch.is_lost[row + 1];
        if (!(below->any | above->any))
            continue;
        State flux;
        hll_flux(&cells[row], &cells[row + 1], gamma, &flux);
        for (int v = 0; v < NUM_VARIABLES; v++)
            for (int i = 0; i < WIDTH; i++)
                if (below->cells[i] | above->cells[i])
                    fluxes[row][v][i] = flux[v][i];
    }

    for (int64_t row = NUM_GHOSTS; row < length - NUM_GHOSTS; row++)
        for (int v = 0; v < NUM_VARIABLES; v++)
            for (int i = 0; i < WIDTH; i++)
                cells[row][v][i] -= step_over_width * (fluxes[row][v][i] - fluxes[row - 1][v][i]);
}

/* Advance columns `first` .. of one cloud along an axis, in place. */
static void sweep(float *cloud, const int64_t *grid, int axis, int64_t first, float step_over_width,
                  float gamma, int is_periodic, Scratch scratch)
{
    int64_t size = grid[axis], num_cells = grid[0] * grid[1] * grid[2], stride = 1, place[WIDTH];
    for (int other = axis + 1; other < 3; other++)
        stride *= grid[other];
    int64_t num_columns = num_cells / size;
    int count = num_columns - first < WIDTH ? (int)(num_columns - first) : WIDTH;
    for (int i = 0; i < WIDTH; i++) {
        /* The last column stands in for those that are missing. */
        int64_t column = first + (i < count ? i : count - 1);
        place[i] = column / stride * stride * size + column % stride;
    }
    /* The momentum along the sweep comes first. */
    int64_t source[NUM_VARIABLES] = {
        MASS, NORMAL + axis, NORMAL + (axis == 0), NORMAL + 2 - (axis == 2), ENERGY};
    for (int v = 0; v < NUM_VARIABLES; v++) {
        const float *values = cloud + source[v] * num_cells;
        for (int64_t row = 0; row < size; row++)
            for (int i = 0; i < WIDTH; i++)
                scratch.cells[row + NUM_GHOSTS][v][i] = values[place[i] + row * stride];
    }
    State *inner = scratch.cells + NUM_GHOSTS;
    for (int64_t ghost = 0; ghost < NUM_GHOSTS; ghost++)
        for (int v = 0; v < NUM_VARIABLES; v++)
            for (int i = 0; i < WIDTH; i++) {
                int64_t below = is_periodic ? (ghost + (size - 1) * NUM_GHOSTS) % size : 0;
                int64_t above = is_periodic ? ghost % size : size - 1;
                scratch.cells[ghost][v][i] = inner[below][v][i];
                inner[size + ghost][v][i] = inner[above][v][i];
            }
    advance_columns(scratch, size + 2 * NUM_GHOSTS, step_over_width, gamma);
    for (int v = 0; v < NUM_VARIABLES; v++) {
        float *values = cloud + source[v] * num_cells;
        for (int64_t row = 0; row < size; row++)
            for (int i = 0; i < count; i++)
                values[place[i] + row * stride] = inner[row][v][i];
    }
}

/* Three sweeps, along `axes` one after the other, in place; tells whether there was memory for them. */
int advance(float *gas, const float *step_over_width, int64_t num_clouds, const int64_t *grid,
            const int *axes, float gamma, int is_periodic, int num_threads)
{
    int64_t num_cells = grid[0] * grid[1] * grid[2], longest = 0;
    for (int axis = 0; axis < 3; axis++)
        longest = grid[axis] > longest ? grid[axis] : longest;
    int64_t length = longest + 2 * NUM_GHOSTS;
    int failed = 0;
#pragma omp parallel num_threads(num_threads) reduction(| : failed)
    {
        Scratch scratch = {malloc(length * sizeof(State)), malloc(length * sizeof(State)),
                           malloc(length * sizeof(*scratch.is_lost))};
        failed = !(scratch.cells && scratch.fluxes && scratch.is_lost);
        for (int number = 0; number < 3; number++) {
            int axis = axes[number];
            int64_t num_blocks = (num_cells / grid[axis] + WIDTH - 1) / WIDTH;
#pragma omp for schedule(static)
            for (int64_t block = 0; block < num_clouds * num_blocks; block++) {
                int64_t cloud = block / num_blocks;
                if (!failed)
                    sweep(gas + cloud * NUM_VARIABLES * num_cells, grid, axis, block % num_blocks * WIDTH,
                          step_over_width[cloud], gamma, is_periodic, scratch);
            }
        }
        free(scratch.cells);
        free(scratch.fluxes);
        free(scratch.is_lost);
    }
    return !failed;
}

/* Fastest |velocity component| + sound speed of each cloud; not a number where a cell's is not finite. */
void signal_speed(const float *gas, int64_t num_clouds, int64_t num_cells, float gamma, int num_threads,
                  float *fastest)
{
    for (int64_t cloud = 0; cloud < num_clouds; cloud++) {
        const float *mass = gas + cloud * NUM_VARIABLES * num_cells, *x = mass + num_cells;
        const float *y = x + num_cells, *z = y + num_cells, *energy = z + num_cells;
        float highest = 0;
        int is_lost = 0;
#pragma omp parallel for num_threads(num_threads) reduction(max : highest) reduction(| : is_lost)
        for (int64_t first = 0; first < num_cells; first += WIDTH) {
            int64_t count = num_cells - first < WIDTH ? num_cells - first : WIDTH;
            Row speed;
            for (int64_t i = 0, cell = first; i < count; i++, cell++) {
                float inverse = 1 / mass[cell];
                float kinetic = kinetic_energy_density(mass[cell], x[cell], y[cell], z[cell]);
                float pressure = pressure_of(energy[cell], kinetic, gamma);
                float component = at_least(at_least(fabsf(x[cell]), fabsf(y[cell])), fabsf(z[cell]));
                speed[i] = component * inverse + sqrtf(gamma * pressure * inverse);
            }
            for (int64_t i = 0; i < count; i++) {
                highest = speed[i] > highest ? speed[i] : highest;
                is_lost |= !(speed[i] < INFINITY);
            }
        }
        fastest[cloud] = is_lost ? NAN : highest;
    }
}

/* Tables of a `CoolingCurve`. */
typedef struct {
    double log_theta, spacing, theta_floor;
    const double *time, *scale, *exponent;
    int64_t num_nodes;
} Curve;

/* P / rho, above the floor, of gas that has radiated; `elapsed` is the time for n_H = 1 cm^-3 [Myr]. */
static float cool(float theta, float elapsed, const Curve *curve)
{
    float spacing = (float)curve->spacing, floor = (float)curve->theta_floor;
    float position = at_least((logf(theta) - (float)curve->log_theta) / spacing, 0);
    int64_t index = (int64_t)at_most(position, (float)(curve->num_nodes - 2));
    float exponent = (float)curve->exponent[index], scale = (float)curve->scale[index];
    float growth = expm1f(exponent * ((position - (float)index) * spacing));
    float fraction = elapsed / (scale * (1 + growth)), after;
    if (fraction < 1e-3f) {
        /* A short step is a small difference: take it as such, or rounding would cool hot gas for nothing. */
        after = theta * (1 - fraction * (1 - 0.5f * (1 - exponent) * fraction));
    } else {
        /* Double precision for this one difference: the time left at 1e5 K is mostly spent at 1e3 K. */
        double left = curve->time[index] + (double)(scale * growth / exponent) - (double)elapsed;
        if (!(left > 0))
            return floor;
        int64_t below = 0, above = index + 1;
        while (above - below > 1) {
            int64_t middle = (below + above) / 2;
            if (curve->time[middle] <= left)
                below = middle;
            else
                above = middle;
        }
        float exponent_after = (float)curve->exponent[below];
        float inside = (float)((left - curve->time[below]) / curve->scale[below]);
        after = floor * expf((float)below * spacing + log1pf(exponent_after * inside) / exponent_after);
    }
    return at_most(at_least(after, floor), theta);
}

/* Let gas radiate for a time [Myr] that is each cloud's own, in place; it ends at the floor or above. */
void radiate(float *gas, const float *step_myr, int64_t num_clouds, int64_t num_cells, float gamma,
             float density_unit, const double *grid, const double *time, const double *scale,
             const double *exponent, int64_t num_nodes, int num_threads)
{
    const Curve curve = {grid[0], grid[1], grid[2], time, scale, exponent, num_nodes};
    const float floor = (float)curve.theta_floor;
    for (int64_t cloud = 0; cloud < num_clouds; cloud++) {
        float *mass = gas + cloud * NUM_VARIABLES * num_cells, *x = mass + num_cells;
        float *y = x + num_cells, *z = y + num_cells, *energy = z + num_cells;
        float step = step_myr[cloud] / density_unit;
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 1024)
        for (int64_t cell = 0; cell < num_cells; cell++) {
            float density = mass[cell];
            float kinetic = kinetic_energy_density(density, x[cell], y[cell], z[cell]);
            float theta = at_least((gamma - 1) * (energy[cell] - kinetic) / density, floor);
            /* Nor is anything that is not a number hotter than the floor. */
            if (theta > floor && theta < INFINITY)
                theta = cool(theta, density * step, &curve);
            energy[cell] = kinetic + density * theta / (gamma - 1);
        }
    }
}
