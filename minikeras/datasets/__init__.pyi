"""What `minikeras.datasets` offers: see `lazy.py`."""

from minikeras.datasets import boston_housing as boston_housing
from minikeras.datasets import california_housing as california_housing
from minikeras.datasets import cifar10 as cifar10
from minikeras.datasets import cifar100 as cifar100
from minikeras.datasets import digits as digits
from minikeras.datasets import fashion_mnist as fashion_mnist
from minikeras.datasets import imdb as imdb
from minikeras.datasets import mnist as mnist
from minikeras.datasets import reuters as reuters
