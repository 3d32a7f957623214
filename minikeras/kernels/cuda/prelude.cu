// What every source begins with.  T is the type of numbers in memory, A the one that is computed with: float, or double
// for double.  NVRTC knows no headers of C, so what is needed of them is here; nothing else may be included.
typedef long long whole;
#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fffffff)
// every index below n, each for one thread of the grid
#define EACH(i, n) for (whole i = blockIdx.x * (whole)blockDim.x + threadIdx.x; i < (n); i += (whole)gridDim.x * blockDim.x)
// every index below n, each for one thread of the block
#define EACH_IN_BLOCK(i, n) for (whole i = threadIdx.x; i < (n); i += blockDim.x)
// Every index below n, four for each thread of the grid: it reads what all of them need, `read(i)`, before it goes on with
// the first, `use(i, what was read)`, so that memory always has much to do.  `fours` gives such a grid.
template <class Read, class Use> __device__ __forceinline__ void in_fours(whole n, Read read, Use use) {
  whole step = (whole)gridDim.x * blockDim.x;
  for (whole first = blockIdx.x * (whole)blockDim.x + threadIdx.x; first < n; first += 4 * step) {
    decltype(read(first)) found[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) found[j] = read(first + j * step < n ? first + j * step : first);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (first + j * step < n) use(first + j * step, found[j]);
    }
  }
}
// a parameter that is a number, or lies in memory where steps are programs; what Python's `number()` gives
#define NUMBER(name) double name##_now, const double* name##_at
#define VALUE(name) (name##_at ? *name##_at : name##_now)
// the blocks that a random stream has used, which lie in memory where steps are programs; what `counter()` gives
#define COUNTER(name) unsigned long long name##_now, const unsigned long long* name##_at
#define COUNT(name) (name##_now + (name##_at ? *name##_at : 0ull))

// numbers of two bytes: computed with as float, rounded to the nearest, ties to even
struct half16 {
  unsigned short bits;
  half16() = default;
  __device__ __forceinline__ half16(float v) {
#ifdef CUDA_ON_HOST
    _Float16 h = (_Float16)v;
    memcpy(&bits, &h, 2);
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#endif
  }
  __device__ __forceinline__ operator float() const {
    float v;
#ifdef CUDA_ON_HOST
    _Float16 h;
    memcpy(&h, &bits, 2);
    v = (float)h;
#else
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
#endif
    return v;
  }
};
struct bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  __device__ __forceinline__ bfloat16(float v) {
    unsigned u = __float_as_int(v);
    bits = v != v ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
  }
  __device__ __forceinline__ operator float() const { return __int_as_float((unsigned)bits << 16); }
};

// functions by the type of their argument
__device__ __forceinline__ float e_to(float x) { return expf(x); }
__device__ __forceinline__ double e_to(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ float larger(float a, float b) { return a > b || a != a ? a : b; }  // NaN stays NaN
__device__ __forceinline__ double larger(double a, double b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ float smaller(float a, float b) { return a < b || a != a ? a : b; }
__device__ __forceinline__ double smaller(double a, double b) { return a < b || a != a ? a : b; }

// Reductions whose order is one of the shape alone.  Every thread of the warp or block must call them, and gets the
// result; blocks are whole warps, at most 32 of them.
struct Sum {
  template <class V> __device__ __forceinline__ static V both(V a, V b) { return a + b; }
  template <class V> __device__ __forceinline__ static V none() { return V(0); }
};
struct Largest {
  template <class V> __device__ __forceinline__ static V both(V a, V b) { return larger(a, b); }
  template <class V> __device__ __forceinline__ static V none() { return V(-INFINITE); }
};
template <class How, class V> __device__ __forceinline__ V over_warp(V v) {
  for (int d = 16; d; d >>= 1) v = How::both(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}
template <class How, class V> __device__ V over_block(V v) {
  __shared__ V parts[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  v = over_warp<How>(v);
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  v = over_warp<How>(lane < warps ? parts[lane] : How::template none<V>());
  __syncthreads();  // the next call writes to `parts`
  return v;
}
// the types follow
