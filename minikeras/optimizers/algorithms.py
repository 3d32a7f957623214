"""The optimizers: their arguments, their state, and one update of long arrays each, by the formulas of Keras 3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff.tensor import Variable
from minikeras.declared import Number, declared
from minikeras.optimizers.base import AT_LEAST_0, DECAY, Epsilon, Optimizer, PartialShare, Plan, Share


@declared
class SGD(Optimizer):
    """Stochastic gradient descent: `w -= learning_rate * g`.

    With momentum, `v = momentum * v - learning_rate * g` and `w += v`.

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        momentum: between 0 and 1.
        nesterov: whether the momentum of the next step is anticipated (Sutskever et al. 2013).

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.SGD(0.1, momentum=0.9).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.95], dtype=float32)
    """

    learning_rate: Any = 0.01
    momentum: Share = 0.0
    nesterov: bool = False

    def _slot_groups(self) -> list[tuple[str, ...]]:
        return [("momentum",)] if self.momentum else []

    def _update(self, plan: Plan) -> None:
        rate = plan.now[0]
        for p, g, *slots in plan.segments:
            if slots:
                k.sgd_momentum(p, g, slots[0], rate, self.momentum, self.nesterov)
            else:
                k.sgd(p, g, rate)


@declared
class RMSprop(Optimizer):
    """Divide the gradient by a running root mean square of itself (Hinton 2012).

    `w -= learning_rate * g / sqrt(v + epsilon)`, where v is the running mean of `g**2`.

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        rho: share of the old mean square that each step keeps.
        momentum: of the steps, 0 for none.
        epsilon: keeps the root away from 0; None means the global one.
        centered: whether the gradient's variance stands in the root instead of its mean square.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.RMSprop(0.1).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.6837728], dtype=float32)
    """

    learning_rate: Any = 0.001
    rho: Share = 0.9
    momentum: Share = 0.0
    epsilon: Epsilon = 1e-7
    centered: bool = False

    def _slot_groups(self) -> list[tuple[str, ...]]:
        present = {"velocity": True, "momentum": self.momentum > 0, "average_gradient": self.centered}
        return [(name,) for name, is_there in present.items() if is_there]

    def _update(self, plan: Plan) -> None:
        for p, g, v, *others in plan.segments:
            momentum_buffer = others[0] if self.momentum > 0 else None
            average_gradient = others[-1] if self.centered else None
            k.rmsprop(p, g, v, plan.now[0], self.rho, self.epsilon, self.momentum, momentum_buffer, average_gradient)


@declared
class _Moments(Optimizer):
    """Base of those that keep running means of the gradient and of its square."""

    learning_rate: Any = 0.001
    beta_1: PartialShare = 0.9
    beta_2: PartialShare = 0.999
    epsilon: Epsilon = 1e-7

    _SLOTS: ClassVar = (("momentum", "velocity"),)


@declared
class Adam(_Moments):
    """Adaptive moments (Kingma and Ba 2015), optionally AMSGrad (Reddi et al. 2018).

    `w -= alpha * m / (sqrt(v) + epsilon)`, where m and v are running means of the gradient and of its square, and
    `alpha = learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)` in step t = 1, 2, ...

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        beta_1, beta_2: share of the old mean, and of the old mean square, that each step keeps; 0 to below 1.
        epsilon: keeps the divisor away from 0; None means the global one.
        amsgrad: whether the greatest v so far stands in the root.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.Adam(0.1).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.90000063], dtype=float32)
    """

    amsgrad: bool = False

    _DECAYS: ClassVar = True

    def _slot_groups(self) -> list[tuple[str, ...]]:
        return [*self._SLOTS, ("velocity_hat",)] if self.amsgrad else [*self._SLOTS]

    def _step_numbers(self, rate: float, update: int) -> tuple[float, ...]:
        return (rate * (1 - self.beta_2**update) ** 0.5 / (1 - self.beta_1**update),)

    def _update(self, plan: Plan) -> None:
        decay = plan.now[DECAY] if self.weight_decay and plan.is_decayed else None
        for p, g, m, v, *vhat in plan.segments:
            k.adam(p, g, m, v, plan.now[0], self.beta_1, self.beta_2, self.epsilon, vhat[0] if vhat else None, decay)


def _decay(thing: Any, name: str, value: Any) -> float:
    if value is None:
        raise ValueError("AdamW needs a number as its weight_decay, got None; use Adam for none.")
    return AT_LEAST_0(thing, name, value)


@declared
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        learning_rate, beta_1, beta_2, epsilon, amsgrad: as in `Adam`.
        weight_decay: see `Optimizer`, as for all further options.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.AdamW(0.1, weight_decay=0.01).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.89900064], dtype=float32)
    """

    weight_decay: Annotated[float, _decay] = 0.004
    beta_1: PartialShare = 0.9
    beta_2: PartialShare = 0.999
    epsilon: Epsilon = 1e-7
    amsgrad: bool = False


@declared
class Adagrad(Optimizer):
    """Steps that shrink with the sum of all squared gradients so far (Duchi et al. 2011).

    `w -= learning_rate * g / sqrt(sum + epsilon)`.

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        initial_accumulator_value: what the sum starts from.
        epsilon: keeps the root away from 0; None means the global one.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.Adagrad(0.1).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.9154846], dtype=float32)
    """

    learning_rate: Any = 0.001
    initial_accumulator_value: Annotated[float, Number(0)] = 0.1
    epsilon: Epsilon = 1e-7

    def _initial_value(self, slot: str) -> float:
        return self.initial_accumulator_value

    _SLOTS = (("accumulator",),)

    def _update(self, plan: Plan) -> None:
        for p, g, total in plan.segments:
            k.adagrad(p, g, total, plan.now[0], self.epsilon)


@declared
class Adadelta(Optimizer):
    """Steps in the proportion of the root mean squares of steps and gradients (Zeiler 2012).

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        rho: share of the old mean squares that each step keeps.
        epsilon: keeps the roots away from 0; None means the global one.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.Adadelta(1.0).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.9985858], dtype=float32)
    """

    learning_rate: Any = 0.001
    rho: Share = 0.95
    epsilon: Epsilon = 1e-7

    _SLOTS = (("accumulated_grad", "accumulated_delta_var"),)

    def _update(self, plan: Plan) -> None:
        for p, g, squares, steps in plan.segments:
            k.adadelta(p, g, squares, steps, plan.now[0], self.rho, self.epsilon)


@declared
class Adamax(_Moments):
    """Adam with the infinity norm (Kingma and Ba 2015, section 7).

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        beta_1, beta_2: share of the old mean, and of the old norm, that each step keeps; 0 to below 1.
        epsilon: keeps the divisor away from 0; None means the global one.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.Adamax(0.1).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.90000004], dtype=float32)
    """

    _SLOTS = (("momentum", "norm"),)

    def _step_numbers(self, rate: float, update: int) -> tuple[float, ...]:
        return (rate / (1 - self.beta_1**update),)

    def _update(self, plan: Plan) -> None:
        for p, g, m, norm in plan.segments:
            k.adamax(p, g, m, norm, plan.now[0], self.beta_1, self.beta_2, self.epsilon)


@declared
class Nadam(_Moments):
    """Adam with Nesterov momentum (Dozat 2016), whose share of momentum rises as `beta_1 * (1 - 0.5 * 0.96**t)`.

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        beta_1, beta_2: share of the old mean, and of the old mean square, that each step keeps; 0 to below 1.
        epsilon: keeps the divisor away from 0; None means the global one.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.Nadam(0.1).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.8937212], dtype=float32)
    """

    def build(self, variables: Iterable[Variable]) -> None:
        """See `Optimizer`; the last variable is the product of all shares of momentum so far."""
        if not self.built:
            super().build(variables)
            dtype = self._trainable_variables[0].dtype if self._trainable_variables else "float32"
            self._product = self._host_variable(1.0, dtype, "variable")
            self._state.append(self._product)

    def _step_numbers(self, rate: float, update: int) -> tuple[float, ...]:
        share, next_share = self._share(update), self._share(update + 1)
        product = float(self._product.host * share)
        of_mean, of_gradient = next_share / (1 - product * next_share), (1 - share) / (1 - product)
        return rate, of_mean, of_gradient, 1 - self.beta_2**update, product

    def _share(self, update: int) -> float:
        """Of momentum."""
        return self.beta_1 * (1 - 0.5 * 0.96**update)

    def _carry(self, numbers: Any) -> None:
        self._product.host[...] = numbers[4]

    def _numbers_ahead(self, steps: int) -> np.ndarray | None:
        product = self._product.host.copy()
        try:
            return super()._numbers_ahead(steps)
        finally:
            self._product.host[...] = product

    def _update(self, plan: Plan) -> None:
        for p, g, m, v in plan.segments:
            k.nadam(p, g, m, v, *plan.now[:4], self.beta_1, self.beta_2, self.epsilon)
        self._carry(self._now)


@declared
class Lion(Optimizer):
    """Steps of one size, in the direction of the sign of the momentum (Chen et al. 2023).

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        beta_1: share of the momentum, the rest being the gradient, in the direction of a step; above 0, at most 1.
        beta_2: share of the old momentum that each step keeps.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import optimizers
    >>> w = keras.Variable([1.0])
    >>> optimizers.Lion(0.1).apply([np.array([0.5])], [w])
    >>> w.numpy()
    array([0.9], dtype=float32)
    """

    learning_rate: Any = 0.001
    beta_1: Annotated[float, Number(high=1, above=0)] = 0.9
    beta_2: Share = 0.99

    _SLOTS = (("momentum",),)

    def _update(self, plan: Plan) -> None:
        for p, g, m in plan.segments:
            k.lion(p, g, m, plan.now[0], self.beta_1, self.beta_2)


AT_MOST_0 = Number(high=0)


@declared
class Ftrl(Optimizer):
    """Follow the regularized leader: sparse weights of large linear models (McMahan et al. 2013).

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        learning_rate_power: at most 0; how fast the steps shrink with the sum of all squared gradients, 0 for not.
        initial_accumulator_value: what that sum starts from.
        l1_regularization_strength, l2_regularization_strength: penalties of the size and the square of the weights.
        l2_shrinkage_regularization_strength: the same of the square, as a part of the gradient.
        beta: added to the root of the sum in the paper.

    >>> from minikeras import Variable, optimizers
    >>> w, ftrl = Variable([1.0]), optimizers.Ftrl(0.1, l1_regularization_strength=0.1)
    >>> ftrl.apply([[0.5]], [w])
    >>> print(w.numpy().round(3))
    [0.364]
    """

    learning_rate: Any = 0.001
    learning_rate_power: Annotated[float, AT_MOST_0] = -0.5
    initial_accumulator_value: Annotated[float, Number(0)] = 0.1
    l1_regularization_strength: Annotated[float, Number(0)] = 0.0
    l2_regularization_strength: Annotated[float, Number(0)] = 0.0
    l2_shrinkage_regularization_strength: Annotated[float, Number(0)] = 0.0
    beta: Annotated[float, Number(0)] = 0.0

    _SLOTS = (("accumulator", "linear"),)

    def _initial_value(self, slot: str) -> float:
        return self.initial_accumulator_value if slot == "accumulator" else 0.0

    @property
    def _obstacle(self) -> str | None:
        powers = None if self.learning_rate_power == -0.5 else "the learning_rate_power of Ftrl is not -0.5"
        return super()._obstacle or powers

    def _update(self, plan: Plan) -> None:
        strengths = self.l1_regularization_strength, self.l2_regularization_strength
        shrinkage = self.l2_shrinkage_regularization_strength
        for p, g, total, linear in plan.segments:
            k.ftrl(p, g, total, linear, plan.now[0], -self.learning_rate_power, *strengths, shrinkage, self.beta)


@declared
class Lamb(_Moments):
    """Adam whose step for each variable is as long as the variable, times the learning rate (You et al. 2020).

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        beta_1, beta_2, epsilon: as in `Adam`.

    >>> from minikeras import Variable, optimizers
    >>> w = Variable([3.0, 4.0])
    >>> optimizers.Lamb(0.1).apply([[1.0, 1.0]], [w])
    >>> print(w.numpy().round(3))
    [2.646 3.646]
    """

    def _step_numbers(self, rate: float, update: int) -> tuple[float, ...]:
        return rate, 1 - self.beta_1**update, 1 - self.beta_2**update

    def _update(self, plan: Plan) -> None:
        for p, g, m, v in plan.each:
            k.lamb(p, g, m, v, *plan.now[:3], self.beta_1, self.beta_2, self.epsilon)


@declared
class Adafactor(Optimizer):
    """Adaptive steps whose state is as long as the rows and columns of a matrix (Shazeer and Stern 2018).

    Args:
        learning_rate: see `Optimizer`, as for all further options.
        beta_2_decay: power of the step by which the mean squares forget; below 0.
        epsilon_1: added to squared gradients.
        epsilon_2: the least size of a variable, by which its steps are scaled.
        clip_threshold: the largest root mean square of an update.
        relative_step: accepted for familiarity: as in Keras the learning rate is at most `1 / sqrt(step)`.

    >>> from minikeras import Variable, optimizers
    >>> w = Variable([[1.0, 1.0]])
    >>> optimizers.Adafactor(0.1).apply([[[1.0, -1.0]]], [w])
    >>> print(w.numpy().round(3))
    [[0.9 1.1]]
    """

    learning_rate: Any = 0.001
    beta_2_decay: Annotated[float, AT_MOST_0] = -0.8
    epsilon_1: Annotated[float, Number(0)] = 1e-30
    epsilon_2: Annotated[float, Number(0)] = 1e-3
    clip_threshold: Annotated[float, Number(above=0)] = 1.0
    relative_step: bool = True

    def build(self, variables: Iterable[Variable]) -> None:
        """See `Optimizer`; a matrix has the means of its rows and columns beside their product."""
        if not self.built:
            super().build(variables)
            self._slots = [list(group) for group in zip(*map(self._means_of, self._trainable_variables), strict=True)]

    def _means_of(self, variable: Variable) -> list[Variable]:
        shape, dtype = variable.shape, variable.dtype
        if len(shape) < 2:  # the means are there, since they are in files, and not used
            means = [Variable(0, dtype="int32", trainable=False, name=variable.name) for _ in range(2)]
            self._state += means
        else:
            lines = shape[:-1], (*shape[:-2], shape[-1])
            means = [self.add_variable(line, "zeros", dtype, name=variable.name) for line in lines]
        return [*means, self.add_variable_from_reference(variable, "velocity")]

    def _step_numbers(self, rate: float, update: int) -> tuple[float, ...]:
        return min(rate, update**-0.5), update**self.beta_2_decay

    def _update(self, plan: Plan) -> None:
        for p, g, rows, columns, v in plan.each:
            constants = self.epsilon_1, self.epsilon_2, self.clip_threshold
            k.adafactor(p, g, rows, columns, v, *plan.now[:2], *constants)
