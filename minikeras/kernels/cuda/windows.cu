// Windows over arrays (pictures, *spatial, channels), always with three spatial axes: those that are missing are of
// length 1.  An output o takes its tap t from the input o * stride + t * dilation - before.  Taps that are `apart` meet
// an input again, in outputs that lie `nearer` by so much: of an input, every apart-th tap belongs to an output.
#define THREE(name) whole name##0, whole name##1, whole name##2
#define THE_THREE(name) {int(name##0), int(name##1), int(name##2)}
#define GEOMETRY                                                                                            \
  THREE(input), THREE(output), THREE(size), THREE(stride), THREE(before), THREE(dilation), THREE(apart), THREE(nearer)
#define THE_GEOMETRY                                                                                        \
  Geometry { THE_THREE(input), THE_THREE(output), THE_THREE(size), THE_THREE(stride), THE_THREE(before),    \
             THE_THREE(dilation), THE_THREE(apart), THE_THREE(nearer) }
// where a place in a picture lies, counted over all pictures; one picture has less than 2**31 places
__device__ __forceinline__ whole position_of(int picture, const int* place, const int* lengths) {
  return picture * (whole)(lengths[0] * lengths[1] * lengths[2]) + (place[0] * lengths[1] + place[1]) * lengths[2] + place[2];
}
__device__ __forceinline__ bool within(const int* place, const int* lengths) {
  bool inside = true;
  for (int i = 0; i < 3; ++i) inside &= (unsigned)place[i] < (unsigned)lengths[i];
  return inside;
}
struct Geometry {
  int input[3], output[3], size[3], stride[3], before[3], dilation[3], apart[3], nearer[3];
  __device__ __forceinline__ int taps() const { return size[0] * size[1] * size[2]; }
  __device__ __forceinline__ whole position(int picture, const int* place) const {
    return position_of(picture, place, input);
  }
  // the first tap by which an input belongs to an output, be it one that is not there
  __device__ __forceinline__ int first(int axis, int input) const {
    int tap = 0;
    while (tap < size[axis] && (input + before[axis] - tap * dilation[axis]) % stride[axis]) ++tap;
    return tap;
  }
  // the output to which an input belongs by such a tap
  __device__ __forceinline__ int meets(int axis, int input, int tap) const {
    return (input + before[axis] - tap * dilation[axis]) / stride[axis];
  }
};

// of numbers that are not negative; dividing 64 bits takes several times as long as 32
__device__ __forceinline__ whole quotient(whole a, whole b) {
  return (a | b) < 1ll << 32 ? (unsigned)a / (unsigned)b : a / b;
}

// A number in four digits, the last of which counts fastest, and the step by which it goes on; the first has no limit.
struct Digits {
  int at[4], step[4], most[4];
  __device__ __forceinline__ Digits(whole number, whole by, const int* m) : most{0, m[0], m[1], m[2]} {
    write(number, at);
    write(by, step);
  }
  __device__ __forceinline__ Digits(whole number, whole by, int a, int b, int c) : most{0, a, b, c} {
    write(number, at);
    write(by, step);
  }
  __device__ __forceinline__ void write(whole number, int* digits) const {
    for (int i = 3; i; --i) {
      whole rest = quotient(number, most[i]);
      digits[i] = int(number - rest * most[i]);
      number = rest;
    }
    digits[0] = int(number);
  }
  __device__ __forceinline__ void add(int a, int b, int c, int d) {
    int by[4] = {a, b, c, d}, carried = 0;
    for (int i = 3; i; --i) {
      at[i] += by[i] + carried;
      carried = at[i] >= most[i];
      if (carried) at[i] -= most[i];
    }
    at[0] += by[0] + carried;
  }
  __device__ __forceinline__ void advance() { add(step[0], step[1], step[2], step[3]); }
  __device__ __forceinline__ void next() { add(0, 0, 0, 1); }
};

// Call `use(number of the tap, place)` for every input of the window of an output (picture, place, place, place).
template <class Use> __device__ __forceinline__ void each_input(const Geometry& g, const Digits& at, Use use) {
  int first[3], p[3], tap = 0;
  for (int i = 0; i < 3; ++i) first[i] = at.at[i + 1] * g.stride[i] - g.before[i];
  for (int t0 = 0; t0 < g.size[0]; ++t0)
    for (int t1 = 0; t1 < g.size[1]; ++t1)
      for (int t2 = 0; t2 < g.size[2]; ++t2, ++tap) {
        p[0] = first[0] + t0 * g.dilation[0];
        p[1] = first[1] + t1 * g.dilation[1];
        p[2] = first[2] + t2 * g.dilation[2];
        if (within(p, g.input)) use(tap, p);
      }
}
// Call `use(tap, output)` for every output in which an input (picture, place, place, place) takes part.
template <class Use> __device__ __forceinline__ void each_output(const Geometry& g, const Digits& at, Use use) {
  int first[3], output[3], t[3], o[3];
  for (int i = 0; i < 3; ++i) {
    first[i] = g.first(i, at.at[i + 1]);
    output[i] = g.meets(i, at.at[i + 1], first[i]);
  }
  for (t[0] = first[0], o[0] = output[0]; t[0] < g.size[0]; t[0] += g.apart[0], o[0] -= g.nearer[0])
    for (t[1] = first[1], o[1] = output[1]; t[1] < g.size[1]; t[1] += g.apart[1], o[1] -= g.nearer[1])
      for (t[2] = first[2], o[2] = output[2]; t[2] < g.size[2]; t[2] += g.apart[2], o[2] -= g.nearer[2])
        if (within(o, g.output)) use(t, o);
}

// Values that lie side by side and are read or written at once, where their address allows it.
template <class V, int WIDTH> struct alignas(WIDTH * sizeof(V)) Pack { V v[WIDTH]; };
template <class V> __device__ __forceinline__ bool in_fours(const V* memory, whole row) {
  return row % 4 == 0 && (unsigned long long)memory % sizeof(Pack<V, 4>) == 0;
}
template <int WIDTH, class V> __device__ __forceinline__ Pack<V, WIDTH> several(const V* from) {
  return *(const Pack<V, WIDTH>*)from;
}
