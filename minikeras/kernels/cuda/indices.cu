// Whether a table of so many rows has one of the number that an index of type I means.
__device__ __forceinline__ bool is_row(I index, whole rows) {
  return !(index < I(0)) && (unsigned long long)index < (unsigned long long)rows;
}
// The place that an index means on an axis of this size, where negative ones count from the end; -1 for none.
__device__ __forceinline__ whole place_of(I index, whole size) {
  whole place = index < I(0) ? whole(index) + size : whole(index);
  return index < I(0) ? (place < 0 ? -1 : place) : (is_row(index, size) ? place : -1);
}
