// CUDA C on the CPU, for tests.  The threads of a block are fibers of one thread of the system; one block runs at a time.
// A barrier lets the next fiber run until all have come.  A thread that never waits leaves its fiber to the next thread,
// so kernels without barriers are plain loops.  `host_order` turns the order of threads and blocks around: what depends
// on it is a race.  A barrier that some threads never reach is an error that ends the process.
#pragma once
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>

#define CUDA_ON_HOST 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__
#define __align__(n) alignas(n)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
#define HOST_VECTORS(T, name)                                                                       \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                \
  struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };                                          \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                        \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
HOST_VECTORS(float, float) HOST_VECTORS(int, int) HOST_VECTORS(unsigned, uint) HOST_VECTORS(double, double)

extern "C" int host_order;
int host_order = 0;  // 1: the last thread and the last block first

namespace host {
enum Wait { READY, AT_BLOCK, AT_WARP, OVER };
struct Fiber {
  jmp_buf at;
  ucontext_t start;
  Wait wait;
  unsigned mask, id, turn;
  uint3 thread;
  char* stack;
};
constexpr unsigned MOST = 1024;
constexpr size_t STACK = 64 << 10;
inline Fiber fibers[MOST], *now, *of[MOST];
inline jmp_buf scheduler;
inline unsigned made, next, threads, alive, arrived, warp_alive[32], warp_arrived[32];
inline uint64_t slots[2][MOST];
inline std::function<void()> body;
inline dim3 grid, block;
inline uint3 thread, place;
inline char* dynamic_shared;

inline void take(Fiber& f) {  // the next thread that has not run
  f.id = host_order ? threads - 1 - next : next;
  ++next;
  f.thread = {f.id % block.x, f.id / block.x % block.y, f.id / block.x / block.y};
  f.turn = 0;
  thread = f.thread;
  of[f.id] = &f;
}
inline void release_warp(unsigned warp, unsigned mask) {
  unsigned wanted = mask & warp_alive[warp];
  if (!mask || (warp_arrived[warp] & wanted) != wanted) return;
  warp_arrived[warp] &= ~mask;
  for (unsigned t = 32 * warp; t < std::min(threads, 32 * warp + 32); ++t)
    if (of[t] && of[t]->wait == AT_WARP && of[t]->mask == mask) of[t]->wait = READY;
}
inline void release_block() {
  if (!arrived || arrived != alive) return;
  arrived = 0;
  for (unsigned i = 0; i < made; ++i)
    if (fibers[i].wait == AT_BLOCK) fibers[i].wait = READY;
}
inline void run_fiber() {
  for (;;) {
    take(*now);
    body();
    unsigned warp = now->id / 32;
    --alive;
    warp_alive[warp] &= ~(1u << now->id % 32);
    of[now->id] = nullptr;
    release_block();
    for (unsigned t = 32 * warp; warp_arrived[warp] && t < std::min(threads, 32 * warp + 32); ++t)
      if (of[t] && of[t]->wait == AT_WARP) release_warp(warp, of[t]->mask);
    if (next >= threads) {
      now->wait = OVER;
      _longjmp(scheduler, 1);
    }
  }
}
inline void pause(Wait wait, unsigned mask = 0) {
  now->wait = wait;
  now->mask = mask;
  if (wait == AT_WARP) release_warp(now->id / 32, mask);
  else release_block();
  if (now->wait == READY) return;  // the last one to come goes on
  if (!_setjmp(now->at)) _longjmp(scheduler, 1);
  thread = now->thread;
}
inline void run_block() {
  threads = alive = block.x * block.y * block.z;
  next = made = arrived = 0;
  std::fill_n(of, threads, nullptr);
  for (unsigned w = 0; w < (threads + 31) / 32; ++w) {
    unsigned count = std::min(32u, threads - 32 * w);
    warp_alive[w] = count == 32 ? ~0u : (1u << count) - 1;
    warp_arrived[w] = 0;
  }
  while (alive) {
    bool ran = false;
    for (unsigned warp = 0; warp < made; warp += 32)  // each runs ahead of the others, as far as barriers let it
      for (bool again = true; again;) {
        again = false;
        for (unsigned i = warp; i < std::min(made, warp + 32); ++i)
          if (fibers[i].wait == READY) {
            ran = again = true;
            now = &fibers[i];
            if (!_setjmp(scheduler)) _longjmp(now->at, 1);
          }
      }
    while (next < threads) {
      ran = true;
      Fiber& f = fibers[made++];
      now = &f;
      f.wait = READY;
      if (!f.stack) f.stack = (char*)mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      getcontext(&f.start);
      f.start.uc_stack.ss_sp = f.stack;
      f.start.uc_stack.ss_size = STACK;
      f.start.uc_link = 0;
      makecontext(&f.start, run_fiber, 0);
      if (!_setjmp(scheduler)) setcontext(&f.start);
    }
    if (alive && !ran) {
      fprintf(stderr, "CUDA on the host: %u threads wait at a barrier that others never reach\n", alive);
      abort();
    }
  }
}
template <class... P, size_t... I>
void launch(void (*kernel)(P...), const unsigned* sizes, void** given, std::index_sequence<I...>) {
  grid = {sizes[0], sizes[1], sizes[2]};
  block = {sizes[3], sizes[4], sizes[5]};
  dynamic_shared = (char*)aligned_alloc(64, (sizes[6] + 64) / 64 * 64);
  memset(dynamic_shared, 0xff, sizes[6]);  // as little of use as on a device
  body = [=] { kernel(*(std::remove_const_t<std::remove_reference_t<P>>*)given[I]...); };
  unsigned count = grid.x * grid.y * grid.z;
  for (unsigned i = 0; i < count; ++i) {
    unsigned b = host_order ? count - 1 - i : i;
    place = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block();
  }
  free(dynamic_shared);
}
template <class... P> int parameters(void (*)(P...)) { return sizeof...(P); }
template <class... P> void launch(void (*kernel)(P...), const unsigned* sizes, void** given) {
  launch(kernel, sizes, given, std::index_sequence_for<P...>{});
}
template <class T> T exchange(unsigned mask, T value, unsigned lane, bool there) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 8 bytes at most");
  Fiber& f = *now;
  unsigned turn = f.turn++ & 1;
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  slots[turn][f.id] = bits;
  warp_arrived[f.id / 32] |= 1u << f.id % 32;
  pause(AT_WARP, mask);
  if (there) memcpy((void*)&value, &slots[turn][f.id / 32 * 32 + lane % 32], sizeof value);
  return value;
}
inline unsigned lane() { return now->id % 32; }
}  // namespace host

#define threadIdx host::thread
#define blockIdx host::place
#define blockDim host::block
#define gridDim host::grid
inline void __syncthreads() { ++host::arrived; host::pause(host::AT_BLOCK); }
inline void __syncwarp(unsigned mask = ~0u) { host::exchange(mask, 0, 0, false); }
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) {
  return host::exchange(m, v, host::lane() + d, host::lane() % w + d < (unsigned)w);
}
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) {
  return host::exchange(m, v, host::lane() - d, host::lane() % w >= d);
}
template <class T> T __shfl_xor_sync(unsigned m, T v, unsigned d, int w = 32) {
  return host::exchange(m, v, host::lane() ^ d, true);
}
template <class T> T __shfl_sync(unsigned m, T v, unsigned s, int w = 32) {
  return host::exchange(m, v, host::lane() / w * w + s % w, true);
}
inline unsigned __ballot_sync(unsigned m, int p) {
  unsigned found = 0;
  for (int i = 0; i < 32; ++i)
    if (m >> i & 1) found |= (unsigned)(__shfl_sync(m, p, i) != 0) << i;
  return found;
}
template <class T, class U> T atomicAdd(T* p, U v) { T old = *p; *p = old + (T)v; return old; }
template <class T, class U> T atomicMax(T* p, U v) { T old = *p; *p = std::max<T>(old, v); return old; }
template <class T, class U> T atomicOr(T* p, U v) { T old = *p; *p = old | (T)v; return old; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned __int128)a * b >> 64;
}
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline float __int_as_float(int x) { float f; memcpy(&f, &x, 4); return f; }
inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float normcdff(float x) { return (float)(0.5 * ::erfc(-M_SQRT1_2 * x)); }
inline double normcdf(double x) { return 0.5 * ::erfc(-M_SQRT1_2 * x); }
inline void sincospif(float x, float* s, float* c) { *s = (float)::sin(M_PI * x); *c = (float)::cos(M_PI * x); }
template <class T> T __ldg(const T* p) { return *p; }
using std::max;
using std::min;
