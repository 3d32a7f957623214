// Rows of a matrix, each shared by the threads of a block that have one threadIdx.y: by 1, 2, 4, ... 32 neighbours, or by a
// whole block, whose threads are then one row of it.  `of_rows` in rows.py chooses.
__device__ __forceinline__ whole own_row(whole rows) {
  whole row = blockIdx.x * (whole)blockDim.y + threadIdx.y;
  return row < rows ? row : rows - 1;  // those beyond the last do it once more: all of a warp must take part in sums
}
// a reduction over the threads of a row; every thread of the block must call it, and gets the result
template <class How, class V> __device__ V over_row(V v) {
  if (blockDim.x > 32) return over_block<How>(v);
  for (int d = blockDim.x / 2; d; d >>= 1) v = How::both(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}
__device__ __forceinline__ A largest_of_row(const T* x, whole size) {
  A most = -INFINITE;
  EACH_IN_BLOCK(j, size) most = larger(most, A(x[j]));
  return over_row<Largest>(most);
}
