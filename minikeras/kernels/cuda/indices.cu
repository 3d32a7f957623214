// Whether a table of so many rows has one of the number that an index of type I means.
__device__ __forceinline__ bool is_row(I index, whole rows) {
  return !(index < I(0)) && (unsigned long long)index < (unsigned long long)rows;
}
