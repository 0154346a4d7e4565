/* Distances of pairs along a path, and the path of a brake, compiled: `NumpySweep` of sweep.py and `path_of`
   of brake.py in plain loops.

   The array code in gaps.py, selection.py, chain.py and brake.py is the one that is derived and explained;
   numpy pays a microsecond for every operation on a handful of numbers, and a tick asks for some hundred.
   tests/test_safety_kernel.py holds both to the same distances and paths. Without this module the filter uses the
   array code. A number that is not finite never turns into a large distance: NaN stays NaN. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define TINY 1e-12
#define MOST_JOINTS 64

/* ---- what does not change: packed by `sweep._pack` ------------------------------------------ */

typedef struct {
    int64_t frames, joints, shapes, pairs, capsules, boxes;
    const int64_t *parent, *column, *carrier, *shape, *other;
    const double *root, *fixed, *across, *along, *axis, *covers, *radii, *box, *half, *radius, *R, *bend, *lever;
} Tables;

static int tables_of(Tables *t, const Py_buffer *ints, const Py_buffer *reals)
{
    const int64_t *i = ints->buf, *head = i;
    const double *x = reals->buf;
    if (ints->len < 6 * 8) return 0;
    t->frames = head[0], t->joints = head[1], t->shapes = head[2];
    t->pairs = head[3], t->capsules = head[4], t->boxes = head[5];
    int64_t n = t->frames, s = t->shapes, hulls = t->pairs - t->capsules;
    i += 6;
    t->parent = i, i += n;
    t->column = i, i += n;
    t->carrier = i, i += s;
    t->shape = i, i += t->pairs;
    t->other = i, i += t->capsules;
    t->root = x, x += 16;
    t->fixed = x, x += 16 * n;
    t->across = x, x += 16 * n;
    t->along = x, x += 16 * n;
    t->axis = x, x += 3 * n;
    t->covers = x, x += 24 * s;
    t->radii = x, x += t->capsules;
    t->box = x, x += 12 * hulls;
    t->half = x, x += 3 * hulls;
    t->radius = x, x += hulls;
    t->R = x, x += 9 * hulls;
    t->bend = x, x += t->pairs;
    t->lever = x, x += t->pairs * t->joints;
    return n <= MOST_JOINTS && t->joints < MOST_JOINTS && (char *)i - (char *)ints->buf == ints->len &&
           (char *)x - (char *)reals->buf == reals->len;
}

/* ---- small things --------------------------------------------------------------------------------- */

static double lower(double a, double b) { return a != a || b >= a ? a : b; }
static double higher(double a, double b) { return a != a || b <= a ? a : b; }
static double unit(double x) { return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x; }
static double dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
static void minus(const double *a, const double *b, double *out)
{
    for (int k = 0; k < 3; k++) out[k] = a[k] - b[k];
}

/* ---- one posture ---------------------------------------------------------------------------------- */

/* (frames, 4, 4) T_base_joint, as `chain.Tree.frames`. */
static void place_frames(const Tables *t, const double *q, double *frames)
{
    memcpy(frames, t->root, 16 * sizeof(double));
    for (int64_t j = 1; j < t->frames; j++) {
        double sine = sin(q[t->column[j]]), lack = 1.0 - cos(q[t->column[j]]), local[12];
        const double *from = frames + 16 * t->parent[j];
        double *here = frames + 16 * j;
        for (int k = 0; k < 12; k++)
            local[k] = t->fixed[16 * j + k] + sine * t->across[16 * j + k] + lack * t->along[16 * j + k];
        for (int row = 0; row < 3; row++)
            for (int c = 0; c < 4; c++) {
                double sum = c == 3 ? from[4 * row + 3] : 0.0;
                for (int k = 0; k < 3; k++) sum += from[4 * row + k] * local[4 * k + c];
                here[4 * row + c] = sum;
            }
        here[12] = here[13] = here[14] = 0.0, here[15] = 1.0;
    }
}

/* (shapes, 6, 3) centre and three half edges of each hull, two ends of each capsule. */
static void place_covers(const Tables *t, const double *frames, double *covers)
{
    for (int64_t s = 0; s < t->shapes; s++) {
        const double *T = frames + 16 * t->carrier[s], *cover = t->covers + 24 * s;
        for (int c = 0; c < 6; c++)
            for (int row = 0; row < 3; row++) {
                double sum = 0.0;
                for (int k = 0; k < 4; k++) sum += T[4 * row + k] * cover[6 * k + c];
                covers[18 * s + 3 * c + row] = sum;
            }
    }
}

/* A pair at one posture. Capsules: axes d, e, way r between their begins, normal n, shares s and u of the
   nearest points. Hulls: heights over the six faces, and the face that decides. */
typedef struct {
    double distance, d[3], e[3], r[3], n[3], height[6], s, u;
    int face;
} Gap;

static void capsule_gap(const Tables *t, const double *covers, int64_t pair, Gap *g)
{
    const double *mine = covers + 18 * t->shape[pair] + 12, *other = covers + 18 * t->other[pair] + 12;
    minus(mine + 3, mine, g->d);
    minus(other + 3, other, g->e);
    minus(mine, other, g->r);
    double aa = dot(g->d, g->d), bb = dot(g->e, g->e), ab = dot(g->d, g->e);
    double ar = dot(g->d, g->r), br = dot(g->e, g->r);
    g->s = unit((ab * br - ar * bb) / higher(aa * bb - ab * ab, TINY));
    g->u = unit((ab * g->s + br) / higher(bb, TINY));
    g->s = unit((ab * g->u - ar) / higher(aa, TINY));
    for (int k = 0; k < 3; k++) g->n[k] = g->r[k] + g->s * g->d[k] - g->u * g->e[k];
    double length = sqrt(dot(g->n, g->n)), scale = 1.0 / higher(length, TINY);
    for (int k = 0; k < 3; k++) g->n[k] *= scale;
    g->distance = length - t->radii[pair];
}

static void hull_gap(const Tables *t, const double *covers, int64_t pair, Gap *g)
{
    int64_t h = pair - t->capsules;
    const double *hull = covers + 18 * t->shape[pair], *T = t->box + 12 * h;
    int outside = h < t->boxes;
    g->face = 0;
    for (int row = 0; row < 3; row++) {
        const double *n = T + 4 * row;
        double centre = dot(n, hull) + n[3];
        double reach = fabs(dot(n, hull + 3)) + fabs(dot(n, hull + 6)) + fabs(dot(n, hull + 9));
        double half = t->half[3 * h + row];
        g->height[row] = centre - reach + (outside ? -half : half);
        g->height[row + 3] = -centre - reach + (outside ? -half : half);
    }
    double best = g->height[0];
    for (int f = 1; f < 6; f++) {
        double next = outside ? higher(best, g->height[f]) : lower(best, g->height[f]);
        if (next != best) g->face = f;
        best = next;
    }
    g->distance = best - t->radius[h];
}

/* Lower bound of the distance between two postures, for a motion of points along straight lines. */
static double between(const Tables *t, int64_t pair, const Gap *a, const Gap *b)
{
    if (pair >= t->capsules) {
        int64_t h = pair - t->capsules;
        if (h >= t->boxes) return lower(a->distance, b->distance);
        double best = lower(a->height[0], b->height[0]);
        for (int f = 1; f < 6; f++) best = higher(best, lower(a->height[f], b->height[f]));
        return best - t->radius[h];
    }
    double ahead = dot(a->n, b->r) + lower(dot(a->n, b->d), 0.0) - higher(dot(a->n, b->e), 0.0) - t->radii[pair];
    double back = dot(b->n, a->r) + lower(dot(b->n, a->d), 0.0) - higher(dot(b->n, a->e), 0.0) - t->radii[pair];
    return higher(lower(a->distance, ahead), lower(b->distance, back));
}

/* ---- along a path --------------------------------------------------------------------------------- */

/* turn, off: (segments, joints) way of each joint, and how far it leaves the chord. */
static void measure_chords(const double *path, int64_t joints, const int64_t *taken, int64_t count, double *turn, double *off)
{
    for (int64_t k = 0; k + 1 < count; k++)
        for (int64_t j = 0; j < joints; j++) {
            double begin = path[taken[k] * joints + j], end = path[taken[k + 1] * joints + j], most = 0.0;
            double span = (double)(taken[k + 1] - taken[k]);
            for (int64_t i = taken[k]; i < taken[k + 1]; i++) {
                double share = (double)(i - taken[k]) / span;
                most = higher(most, fabs(path[i * joints + j] - (begin + share * (end - begin))));
            }
            turn[k * joints + j] = fabs(end - begin);
            off[k * joints + j] = most;
        }
}

static void sweep_pair(
    const Tables *t, const double *covers, int64_t pair, int64_t count, const double *turn, const double *off,
    double *first, double *second, double *lowest)
{
    Gap gaps[2];
    const double *lever = t->lever + pair * t->joints;
    for (int64_t k = 0; k < count; k++) {
        Gap *here = gaps + (k & 1), *last = gaps + !(k & 1);
        const double *posture = covers + k * 18 * t->shapes;
        if (pair < t->capsules) capsule_gap(t, posture, pair, here);
        else hull_gap(t, posture, pair, here);
        if (k == 0) {
            *first = here->distance;
            *lowest = INFINITY;
            continue;
        }
        if (k == 1) *second = here->distance;
        double turned = 0.0, away = 0.0;
        for (int64_t j = 0; j < t->joints; j++)
            if (lever[j] > 0.0) {
                turned += turn[(k - 1) * t->joints + j];
                away += lever[j] * off[(k - 1) * t->joints + j];
            }
        double bound = between(t, pair, last, here) - t->bend[pair] * turned * turned - away;
        *lowest = lower(*lowest, lower(bound, here->distance));
    }
}

/* ---- slopes --------------------------------------------------------------------------------------- */

static void add_slopes(const Tables *t, const double *frames, int64_t joint, const double *at, const double *n, double sign, double *row)
{
    for (int64_t j = joint; j; j = t->parent[j]) {
        const double *T = frames + 16 * j, *axis = t->axis + 3 * j;
        double a[3], p[3];
        for (int k = 0; k < 3; k++) a[k] = dot(T + 4 * k, axis), p[k] = at[k] - T[4 * k + 3];
        row[t->column[j]] += sign * (a[0] * (p[1] * n[2] - p[2] * n[1]) + a[1] * (p[2] * n[0] - p[0] * n[2]) +
                                     a[2] * (p[0] * n[1] - p[1] * n[0]));
    }
}

static void slope_pair(const Tables *t, const double *frames, const double *covers, int64_t pair, double *row)
{
    Gap g;
    double at[3], n[3];
    const double *hull = covers + 18 * t->shape[pair];
    int64_t mine = t->carrier[t->shape[pair]];
    memset(row, 0, t->joints * sizeof(double));
    if (pair < t->capsules) {
        const double *other = covers + 18 * t->other[pair] + 12;
        capsule_gap(t, covers, pair, &g);
        for (int k = 0; k < 3; k++) at[k] = hull[12 + k] + g.s * g.d[k];
        add_slopes(t, frames, mine, at, g.n, 1.0, row);
        for (int k = 0; k < 3; k++) at[k] = other[k] + g.u * g.e[k];
        add_slopes(t, frames, t->carrier[t->other[pair]], at, g.n, -1.0, row);
        return;
    }
    hull_gap(t, covers, pair, &g);
    const double *R = t->R + 9 * (pair - t->capsules);
    for (int k = 0; k < 3; k++) n[k] = R[3 * k + g.face % 3] * (g.face < 3 ? 1.0 : -1.0), at[k] = hull[k];
    for (int edge = 1; edge < 4; edge++) {
        double along = dot(n, hull + 3 * edge), sign = along > 0.0 ? 1.0 : along < 0.0 ? -1.0 : 0.0;
        for (int k = 0; k < 3; k++) at[k] -= sign * hull[3 * edge + k];
    }
    add_slopes(t, frames, mine, at, n, 1.0, row);
}

/* ---- brake ---------------------------------------------------------------------------------------- */

/* `brake.path_of`, the same operations in the same order. parts: (4, joints) turn, b, ends, ramp. */
static void lay_path(const double *q, const double *v, const double *parts, const double *most, double dt, int64_t joints, int64_t rows, double *path)
{
    for (int64_t j = 0; j < joints; j++) {
        double turn = parts[j], begin = parts[joints + j], ends = parts[2 * joints + j], ramp = parts[3 * joints + j];
        double sum = 0.0, way = 0.0;
        path[j] = q[j];
        for (int64_t k = 1; k < rows; k++) {
            double i = (double)k, b = lower(lower(begin + i, most[j]), higher(ramp - i, 0.0));
            sum = k == 1 ? b : sum + b;
            double speed = i < ends ? v[j] + turn * sum : 0.0;
            way = k == 1 ? speed : way + speed;
            path[k * joints + j] = q[j] + dt * way;
        }
    }
}

/* ---- Python --------------------------------------------------------------------------------------- */

static int known(const Tables *t, const int64_t *pairs, int64_t count)
{
    for (int64_t k = 0; k < count; k++)
        if (pairs[k] < 0 || pairs[k] >= t->pairs) return 0;
    return 1;
}

static PyObject *sweep(PyObject *self, PyObject *args)
{
    Py_buffer ints, reals, path, taken, pairs, out;
    PyObject *result = NULL;
    double *space = NULL;
    Tables t;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*", &ints, &reals, &path, &taken, &pairs, &out)) return NULL;
    if (!tables_of(&t, &ints, &reals)) goto wrong;
    const int64_t *row = taken.buf, *pair = pairs.buf;
    int64_t postures = taken.len / 8, count = pairs.len / 8, rows = path.len / 8 / t.joints, J = t.joints;
    if (postures < 2 || out.len != 3 * count * 8 || path.len != rows * J * 8 || row[0] < 0 || row[postures - 1] >= rows) goto wrong;
    for (int64_t k = 1; k < postures; k++)
        if (row[k] <= row[k - 1]) goto wrong;
    if (!known(&t, pair, count)) goto wrong;
    space = PyMem_Malloc((16 * t.frames + postures * (18 * t.shapes + 2 * J)) * sizeof(double));
    if (!space) {
        PyErr_NoMemory();
        goto end;
    }
    double *frames = space, *covers = frames + 16 * t.frames, *turn = covers + postures * 18 * t.shapes, *off = turn + postures * J;
    const double *q = path.buf;
    for (int64_t k = 0; k < postures; k++) {
        place_frames(&t, q + row[k] * J, frames);
        place_covers(&t, frames, covers + k * 18 * t.shapes);
    }
    measure_chords(q, J, row, postures, turn, off);
    double *found = out.buf;
    for (int64_t k = 0; k < count; k++)
        sweep_pair(&t, covers, pair[k], postures, turn, off, found + k, found + count + k, found + 2 * count + k);
    result = Py_NewRef(Py_None);
    goto end;
wrong:
    PyErr_SetString(PyExc_ValueError, "wm_safety_kernel.sweep: arrays do not fit each other");
end:
    PyMem_Free(space);
    PyBuffer_Release(&ints), PyBuffer_Release(&reals), PyBuffer_Release(&path);
    PyBuffer_Release(&taken), PyBuffer_Release(&pairs), PyBuffer_Release(&out);
    return result;
}

static PyObject *slopes(PyObject *self, PyObject *args)
{
    Py_buffer ints, reals, posture, pairs, out;
    PyObject *result = NULL;
    double *space = NULL;
    Tables t;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*", &ints, &reals, &posture, &pairs, &out)) return NULL;
    if (!tables_of(&t, &ints, &reals)) goto wrong;
    const int64_t *pair = pairs.buf;
    int64_t count = pairs.len / 8;
    if (posture.len != t.joints * 8 || out.len != count * t.joints * 8 || !known(&t, pair, count)) goto wrong;
    space = PyMem_Malloc((16 * t.frames + 18 * t.shapes) * sizeof(double));
    if (!space) {
        PyErr_NoMemory();
        goto end;
    }
    place_frames(&t, posture.buf, space);
    place_covers(&t, space, space + 16 * t.frames);
    for (int64_t k = 0; k < count; k++)
        slope_pair(&t, space, space + 16 * t.frames, pair[k], (double *)out.buf + k * t.joints);
    result = Py_NewRef(Py_None);
    goto end;
wrong:
    PyErr_SetString(PyExc_ValueError, "wm_safety_kernel.slopes: arrays do not fit each other");
end:
    PyMem_Free(space);
    PyBuffer_Release(&ints), PyBuffer_Release(&reals), PyBuffer_Release(&posture);
    PyBuffer_Release(&pairs), PyBuffer_Release(&out);
    return result;
}

static PyObject *brake(PyObject *self, PyObject *args)
{
    Py_buffer q, v, parts, most, out;
    double dt;
    if (!PyArg_ParseTuple(args, "y*y*y*y*dw*", &q, &v, &parts, &most, &dt, &out)) return NULL;
    int64_t joints = q.len / 8, rows = joints ? out.len / 8 / joints : 0;
    int fits = joints > 0 && v.len == q.len && most.len == q.len && parts.len == 4 * q.len && rows > 0 && out.len == rows * q.len;
    if (fits) lay_path(q.buf, v.buf, parts.buf, most.buf, dt, joints, rows, out.buf);
    PyBuffer_Release(&q), PyBuffer_Release(&v), PyBuffer_Release(&parts), PyBuffer_Release(&most), PyBuffer_Release(&out);
    if (fits) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "wm_safety_kernel.brake: arrays do not fit each other");
    return NULL;
}

static PyMethodDef methods[] = {
    {"brake", brake, METH_VARARGS, "The path of a brake; see brake.path_of."},
    {"sweep", sweep, METH_VARARGS, "Distances at the first two postures and the least along a path; see sweep.KernelSweep."},
    {"slopes", slopes, METH_VARARGS, "Change of distances per rad; see sweep.KernelSweep."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "wm_safety_kernel", .m_doc = "Distances of pairs along a path.", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit_wm_safety_kernel(void) { return PyModule_Create(&module); }
