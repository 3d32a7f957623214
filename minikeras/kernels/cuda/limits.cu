// A number within limits, which come from Python; NaN stays NaN.  `passing` is how much of its change they let through: on
// one of them the mean of both sides.
__device__ __forceinline__ A within(A x, double low, double high) { return smaller(larger(x, A(low)), A(high)); }
__device__ __forceinline__ A passing(A x, double low, double high) {
  return A(0.5) * A(x >= A(low) && x <= A(high)) + A(0.5) * A(x > A(low) && x < A(high));
}
// the slope of `-weight * log(p within limits)`
__device__ __forceinline__ A slope_of_logarithm(A weight, A p, double low, double high) {
  return -weight / within(p, low, high) * passing(p, low, high);
}
