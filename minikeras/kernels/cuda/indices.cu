// The row of a table that an index of type I means: the nearest one, where there is none of that number.
__device__ __forceinline__ whole row_of(I index, whole rows) {
  if (index < I(0)) return 0;
  return (unsigned long long)index < (unsigned long long)rows ? whole(index) : rows - 1;
}
