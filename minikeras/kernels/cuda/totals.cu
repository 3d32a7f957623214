// The sum of all values times their weights, and the sum of the weights, one of which goes with so many values: by the
// threads of a grid, of which each block gets its own sums, or of what the blocks of an earlier one have found.
template <class W>
__device__ void add_up(
    const T* values, const W* weights, whole each, whole n, const double* sums, whole parts, double& total, double& weight
) {
  total = weight = 0;
  if (sums) {
    EACH_IN_BLOCK(i, parts) {
      total += sums[2 * i];
      weight += sums[2 * i + 1];
    }
  } else if (weights) {
    EACH(i, n) total += double(values[i]) * double(weights[each == 1 ? i : i / each]);
    EACH(i, n / each) weight += double(weights[i]);
  } else {
    EACH(i, n) total += double(values[i]);
  }
  total = over_block<Sum>(total);
  weight = over_block<Sum>(weight);
}
