// What the warps of a grid have counted: each notes its number, and those of the kernel that follows add them all up.
__device__ __forceinline__ void note_count(whole found, whole* counts) {
  found = over_warp<Sum>(found);
  if (threadIdx.x % 32 == 0) counts[(blockIdx.x * (whole)blockDim.x + threadIdx.x) / 32] = found;
}
__device__ __forceinline__ whole counted(const whole* counts, whole warps) {
  whole found = 0;
  for (whole i = (threadIdx.y * blockDim.x + threadIdx.x) % 32; i < warps; i += 32) found += counts[i];
  return over_warp<Sum>(found);
}
