"""The rows' networks written by hand for PyTorch, as one writes them who wants them fast on a CPU.

Eager and `torch.compile` run the same code.  Pictures come as Keras has them, channels last, and stay so: `permute`
only renames the axes of what `index_select` gathered, and the convolutions work on that order in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.workloads import WORDS, Row, Setting

SHARES = partial(torch.softmax, dim=-1)


class Pictures(nn.Module):
    """Batch, height, width, channels as PyTorch's batch, channels, height, width, without a copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2)


class Average(nn.Module):
    """The mean over a picture's positions: `(batch, channels)`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def normalization(channels: int) -> nn.Module:
    """Batch normalisation with Keras's constants."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def deep_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 512),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(512, 10),
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        Pictures(),
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64 * 5 * 5, 10),
    ).to(memory_format=torch.channels_last)


def deep_cnn() -> nn.Module:
    def block(channels: int, filters: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, filters, 3, padding=1), normalization(filters), nn.ReLU(inplace=True)]

    return nn.Sequential(
        Pictures(),
        *block(3, 64),
        *block(64, 64),
        nn.MaxPool2d(2),
        *block(64, 128),
        *block(128, 128),
        Average(),
        nn.Linear(128, 10),
    ).to(memory_format=torch.channels_last)


class Recurrent(nn.Module):
    """An LSTM or GRU whose last output a linear layer reads; `embedding` before it where it is given."""

    def __init__(self, recurrent: nn.RNNBase, units: int, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        self.embedding, self.recurrent = embedding, recurrent
        self.head = nn.Linear(recurrent.hidden_size, units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.embedding is not None:
            x = self.embedding(x)
        steps, _ = self.recurrent(x)
        return self.head(steps[:, -1])


def lstm() -> nn.Module:
    return Recurrent(nn.LSTM(128, 128, batch_first=True), 1, nn.Embedding(20_000, 128))


def gru() -> nn.Module:
    return Recurrent(nn.GRU(28, 64, num_layers=2, batch_first=True), 10)


def tiny_mlp(units: int = 32) -> nn.Module:
    return nn.Sequential(nn.Linear(20, units), nn.ReLU(), nn.Linear(units, 1))


class Transformer(nn.Module):
    """An encoder's block, normalised after each of its halves, and a classifier of its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.inner, self.outer = nn.Linear(128, 256), nn.Linear(256, 128)
        self.first, self.second = nn.LayerNorm(128, eps=1e-3), nn.LayerNorm(128, eps=1e-3)
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x + self.attention(x, x, x, need_weights=False)[0])
        x = self.second(x + self.outer(functional.relu(self.inner(x))))
        return self.head(x.mean(1))


def mobile_block() -> nn.Module:
    return nn.Sequential(
        Pictures(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        normalization(64),
        nn.ReLU6(inplace=True),
        nn.Conv2d(64, 64, 1),
        Average(),
        nn.Linear(64, 10),
    ).to(memory_format=torch.channels_last)


def agent() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


class Block(nn.Module):
    """A decoder's block, normalised before each of its halves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(64, eps=1e-3), nn.LayerNorm(64, eps=1e-3)
        self.projected, self.joined = nn.Linear(64, 192), nn.Linear(64, 64)
        self.inner, self.outer = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.projected(self.first(x)).unflatten(2, (3, 4, 16)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.joined(attended.transpose(1, 2).flatten(2))
        return x + self.outer(functional.gelu(self.inner(self.second(x))))


class Writer(nn.Module):
    """What may follow a text: the logits after its last word, the only ones that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.blocks = nn.Embedding(WORDS, 64), nn.Sequential(Block(), Block())
        self.last, self.head = nn.LayerNorm(64, eps=1e-3), nn.Linear(64, WORDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.blocks(self.embedding(x))[:, -1:]))


def autoencoder() -> nn.Module:
    sizes = (784, 128, 32, 128, 784)
    hidden = [part for sides in pairwise(sizes) for part in (nn.Linear(*sides), nn.ReLU())]
    return nn.Sequential(*hidden[:-1])


def tabular() -> nn.Module:
    hidden = [
        part
        for sides in pairwise((100, *[256] * 10))
        for part in (nn.Linear(*sides), nn.BatchNorm1d(256, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, nn.Linear(256, 1))


def adam(weights: Any, rate: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(weights, lr=rate, eps=1e-7, fused=True)


def rmsprop(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(weights, lr=1e-3, alpha=0.9, eps=1e-7, foreach=True)  # there is no fused one


def sgd(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.01, momentum=0.9, fused=True)


# A batch's mean loss, and how many of its samples are classified rightly where that is asked for.
Judged = tuple[torch.Tensor, torch.Tensor | int]


def classes(logits: torch.Tensor, y: torch.Tensor) -> Judged:
    return functional.cross_entropy(logits, y), (logits.argmax(1) == y).sum()


def sign(logits: torch.Tensor, y: torch.Tensor) -> Judged:
    y = y.view_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, y), ((logits > 0) == (y > 0.5)).sum()


def parts(logits: torch.Tensor, y: torch.Tensor) -> Judged:
    return functional.binary_cross_entropy_with_logits(logits, y), 0


def values(outputs: torch.Tensor, y: torch.Tensor) -> Judged:
    return functional.mse_loss(outputs, y), 0


# Each network's function, its optimizer's, its loss's, and what turns its outputs into what Keras's are.
MODELS: dict[str, tuple[Any, Any, Callable[..., Judged], Callable[[torch.Tensor], torch.Tensor]]] = {
    "mlp": (mlp, adam, classes, SHARES),
    "deep_mlp": (deep_mlp, rmsprop, classes, SHARES),
    "cnn": (cnn, adam, classes, SHARES),
    "deep_cnn": (deep_cnn, sgd, classes, SHARES),
    "lstm": (lstm, adam, sign, torch.sigmoid),
    "gru": (gru, adam, classes, SHARES),
    "tiny_mlp": (tiny_mlp, adam, parts, torch.sigmoid),
    "transformer": (Transformer, adam, classes, SHARES),
    "mobile_block": (mobile_block, adam, classes, SHARES),
    "agent": (agent, adam, values, nn.Identity()),
    "writer": (Writer, adam, classes, SHARES),
    "autoencoder": (autoencoder, adam, parts, torch.sigmoid),
    "tabular": (tabular, adam, sign, torch.sigmoid),
}


def start_as_keras(model: nn.Module) -> None:
    """Keras's initial distributions, so that the losses can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -0.05, 0.05)
        elif isinstance(module, nn.RNNBase):
            for name, weight in module.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(weight)
                elif "weight_ih" in name:
                    nn.init.xavier_uniform_(weight)
                else:
                    nn.init.orthogonal_(weight)
            if isinstance(module, nn.LSTM):  # its gates: input, forget, cell, output
                nn.init.ones_(module.bias_ih_l0.data[module.hidden_size : 2 * module.hidden_size])


class TorchProgram:
    """A network and its training loop in PyTorch (see `workloads.Program`).

    Loss and accuracy add up in tensors and are read once an epoch.
    """

    def __init__(self, name: str, compiled: bool = False, variant: tuple[int, float] | None = None) -> None:
        self.name, self.compiled = name, compiled
        build, optimizer, self.loss, self.answer = MODELS[name]
        self.model = build(*(variant or ())[:1])
        start_as_keras(self.model)
        self.optimizer = optimizer(self.model.parameters(), *(variant or ())[1:])
        self.judged, self.asked = self._judge, self._ask
        if compiled:  # an epoch has two batch sizes, and each gets its own code; a text has many lengths, and one code
            torch.compiler.reset()  # else it counts earlier networks' versions of these methods, and soon gives up
            dynamic = name == "writer"
            self.judged, self.asked = (torch.compile(one, dynamic=dynamic) for one in (self.judged, self.asked))

    def another(self, units: int, rate: float) -> TorchProgram:
        return TorchProgram(self.name, self.compiled, (units, rate))

    def _judge(self, x: torch.Tensor, y: torch.Tensor) -> Judged:
        return self.loss(self.model(x), y)

    def _ask(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.model(x))

    def fit(self, x: Any, y: Any, batch_size: int, epochs: int) -> float:
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        self.model.train()
        loss = 0.0
        for _ in range(epochs):
            loss_sum, right = torch.zeros(()), 0
            for batch in torch.randperm(len(inputs)).split(batch_size):
                self.optimizer.zero_grad()
                loss_now, right_now = self.judged(inputs.index_select(0, batch), targets.index_select(0, batch))
                loss_now.backward()
                self.optimizer.step()
                loss_sum += loss_now.detach() * len(batch)
                right = right + right_now
            loss, _ = loss_sum.item() / len(inputs), int(right) / len(inputs)
        return loss

    def train_on_batch(self, x: Any, y: Any) -> float:
        self.model.train()
        self.optimizer.zero_grad()
        loss, _ = self.judged(torch.from_numpy(x), torch.from_numpy(y))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def evaluate(self, x: Any, y: Any) -> float:
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        self.model.eval()
        loss_sum = torch.zeros(())
        for batch, wanted in zip(inputs.split(32), targets.split(32), strict=True):
            loss_sum += self.judged(batch, wanted)[0] * len(batch)
        return loss_sum.item() / len(inputs)

    @torch.inference_mode()
    def predict(self, x: Any, batch_size: int) -> Any:
        self.model.eval()
        return torch.cat([self.asked(batch) for batch in torch.from_numpy(x).split(batch_size)]).numpy()

    @torch.inference_mode()
    def predict_on_batch(self, x: Any) -> Any:
        return self.asked(torch.from_numpy(x)).numpy()

    ask = predict_on_batch


class Framework:
    """PyTorch, eager or with `torch.compile`."""

    version = torch.__version__
    modules = ("torch",)

    def __init__(self, compiled: bool = False) -> None:
        self.compiled = compiled

    def seed(self) -> None:
        torch.manual_seed(0)

    def program(self, row: Row) -> TorchProgram:
        assert row.model is not None
        return TorchProgram(row.model, self.compiled)

    def data(self, row: Row, setting: Setting) -> tuple[Any, Any]:
        """The row's data as this framework takes it: as it is."""
        assert row.data is not None
        return row.data(setting, row.count)
