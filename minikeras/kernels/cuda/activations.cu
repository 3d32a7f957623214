// Activations that can be fused: by number, so that every kernel that ends with one knows all of them.  The numbers are
// those of `ACTIVATIONS` in activation.py.
__device__ __forceinline__ A logistic(A x) {
  A small = e_to(x < 0 ? x : -x);
  return (x < 0 ? small : A(1)) / (small + 1);
}
__device__ __forceinline__ A softplus_of(A x) {
  A tail = log1p(e_to(x < 0 ? x : -x));
  return larger(x, A(0)) + tail;
}
__device__ A activated(A x, int activation) {
  switch (activation) {
    case 1: return larger(x, A(0));
    case 2: return logistic(x);
    case 3: return tanh(x);
    case 4: return e_to(x);
    case 5: return larger(x, A(0)) + expm1(smaller(x, A(0)));
    case 6: return (larger(x, A(0)) + expm1(smaller(x, A(0))) * A(1.6732632423543772)) * A(1.0507009873554805);
    case 7: return softplus_of(x);
    case 8: return -softplus_of(-x);
    case 9: return x / ((x < 0 ? -x : x) + 1);
    case 10: return larger(x, x * A(0.2));
    case 11: return smaller(larger(x * A(1.0 / 6) + A(0.5), A(0)), A(1));
    case 12: return smaller(larger(x * A(0.2) + A(0.5), A(0)), A(1));
    case 13: return smaller(larger(x, A(0)), A(6));
  }
  return x;
}
// the gradient at the input, from that at the output y
__device__ A activated_grad(A g, A y, int activation) {
  switch (activation) {
    case 1: return g * (y > 0 ? A(1) : A(0));
    case 2: return g * (y * (1 - y));
    case 3: return g * ((1 - y) * (1 + y));
    case 4: return g * y;
    case 5: return g * (y > 0 ? A(1) : y + 1);
    case 6: return g * (y > 0 ? A(1.0507009873554805) : y + A(1.0507009873554805 * 1.6732632423543772));
    case 7: return g * -expm1(-y);
    case 8: return g * -expm1(y);
    case 9: return g * ((1 - (y < 0 ? -y : y)) * (1 - (y < 0 ? -y : y)));
    case 10: return g * (y > 0 ? A(1) : A(0.2));
    case 11: return g * (y > 0 && y < 1 ? A(1.0 / 6) : A(0));
    case 12: return g * (y > 0 && y < 1 ? A(0.2) : A(0));
    case 13: return g * (y > 0 && y < 6 ? A(1) : A(0));
  }
  return g;
}
