"""What layers say to wrong arguments: an exception of PyTorch's type, whose message names the
layer, the shape that it expects and the one that it got; and whose mistakes it leaves alone."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import nn
import nn.functional as F
import tensorgrad
import tensorgrad.nn


def calls(text: str) -> list[str]:
    return [call for part in text.replace("\n", ";").split(";") if (call := part.strip())]


# z makes floats, i integers and d doubles, all zero, of a shape; l is a list.
INPUTS = calls("""
    Linear(4,3)(z(2,5)); Linear(4,3)(z(1)); Linear(4,3)(l); Linear(4,3)(i(2,4));
    Linear(4,3)(d(2,4)); Linear(4,3)(z(2,4),z(2)); Linear(4,3)(); Bilinear(3,4,2)(z(5,3),z(5,5));
    Bilinear(3,4,2)(z(5,3),z(4,4)); Embedding(5,3)(z(2)); Embedding(5,3)(i(2)+5)
    Embedding(5,3)(i(2)-1); Embedding(5,3)(l); Flatten(3)(z(2,3)); Flatten(2,1)(z(2,3,4))
    Unflatten(1,(2,2))(z(2,5)); Unflatten(4,(2,2))(z(2,4)); CosineSimilarity()(z(2,3),z(2,4))
    CosineSimilarity(3)(z(2,3),z(2,3)); PairwiseDistance()(z(2,3),z(2,4))

    LayerNorm(4)(z(2,3)); LayerNorm((2,3))(z(3)); LayerNorm(4)(i(2,4)); LayerNorm(4)(l)
    RMSNorm(4)(z(2,3)); RMSNorm(4)(l); GroupNorm(2,4)(z(2,3)); GroupNorm(2,4)(z(4))
    BatchNorm1d(3)(z(4,5)); BatchNorm1d(3)(z(4)); BatchNorm1d(3)(z(1,3)); BatchNorm1d(3)(l)
    BatchNorm1d(3)(i(4,3)); BatchNorm2d(3)(z(2,3)); BatchNorm2d(3)(z(2,4,2,2))
    BatchNorm3d(3)(z(2,3,2,2)); BatchNorm3d(2)(z(2,3,2,2,1)); InstanceNorm1d(3)(z(3))
    InstanceNorm1d(3,affine=True)(z(2,4,5)); InstanceNorm2d(3)(z(2,3))
    InstanceNorm2d(3)(z(2,3,1,1)); InstanceNorm3d(3)(z(2,3,2))
    InstanceNorm3d(3,affine=True)(z(4,2,2,2))

    LocalResponseNorm(2)(z(2,3)); LocalResponseNorm(2)(l); ChannelShuffle(2)(z(1,3,2,2))
    ChannelShuffle(2)(z(4,2)); AlphaDropout()(l)
    LSTM(3,4,proj_size=2)(z(5,2,3),(z(1,2,4),z(1,2,4)))

    Dropout()(l); Dropout1d()(z(2)); Dropout2d()(z(2)); Dropout3d()(l)
    Dropout(0.5)(i(3))

    Sigmoid()(l); LogSigmoid()(l); Tanh()(l); Tanhshrink()(l); Softsign()(l); ReLU()(l)
    ReLU6()(l); SELU()(l); SiLU()(l); Mish()(l); Hardsigmoid()(l); Hardswish()(l); LeakyReLU()(l)
    ELU()(l); CELU()(l); Threshold(1,2)(l); Hardtanh()(l); RReLU()(l); GELU()(l); Softplus()(l)
    Hardshrink()(l); Softshrink()(l); PReLU()(l); Softmax(0)(l); Softmin(0)(l); LogSoftmax(0)(l)
    Softmax2d()(l); GLU()(l); LogSigmoid()(i(2)); SELU()(i(2)); SiLU()(i(2)); Mish()(i(2))
    Hardsigmoid()(i(2)); Hardswish()(i(2)); LeakyReLU()(i(2)); ELU()(i(2)); CELU()(i(2))
    RReLU()(i(2)); GELU()(i(2)); Softplus()(i(2)); Hardshrink()(i(2)); Softshrink()(i(2))
    PReLU()(i(2)); Softmax(0)(i(2)); Softmin(0)(i(2)); LogSoftmax(0)(i(2)); GLU()(i(2))
    GELU("erf")(z(2)); CELU(0)(z(2)); Softshrink(-1)(z(2)); PReLU(3)(z(2,4)); Softmax(2)(z(2,3))
    LogSoftmax(-3)(z(2,2)); Softmin(4)(z(3)); GLU()(z(3)); GLU(3)(z(2,4)); Softmax2d()(z(2,3))
    RReLU(0.5,0.1)(z(3))

    Conv1d(4,2,3)(z(2,3,9)); Conv1d(4,2,3)(z(9)); Conv1d(4,2,3)(z(2,4,2)); Conv1d(4,2,3)(l)
    Conv1d(4,2,3)(i(2,4,9)); Conv1d(4,2,3)(d(2,4,9)); Conv2d(4,2,3)(z(4,9))
    Conv2d(4,2,3)(z(2,3,9,9)); Conv3d(4,2,3)(z(2,3,4,4,4)); Conv3d(4,2,1)(z(2,4))
    ConvTranspose1d(4,2,3)(z(2,3,9)); ConvTranspose2d(4,2,3)(z(2,3,9,9))
    ConvTranspose3d(4,2,3)(z(2,3,2,2,2)); ConvTranspose1d(4,2,3)(z(9))
    ConvTranspose2d(4,2,3)(z(9)); ConvTranspose3d(4,2,3)(z(9))
    ConvTranspose1d(4,2,3,output_padding=3)(z(2,4,5))
    ConvTranspose1d(4,2,3)(z(2,4,5),output_size=[99]); Unfold(3)(z(2,2)); Unfold(9)(z(1,2,3,3))
    Fold(4,2)(z(2,7,9)); Fold(4,2)(z(2,8,8)); Fold(4,2)(z(8))

    MaxPool1d(3)(z(3)); MaxPool1d(9)(z(2,3)); MaxPool1d(2,padding=2)(z(2,3)); MaxPool2d(2)(z(2,3))
    MaxPool2d(9)(z(2,3,4)); MaxPool2d(2)(l); MaxPool3d(2)(z(2,3)); MaxPool3d(0)(z(2,2,2,2))
    AvgPool1d(3)(z(3)); AvgPool1d(9)(z(2,3)); AvgPool2d(2)(z(3))
    AvgPool2d(2,divisor_override=0)(z(1,2,2)); AvgPool3d(2)(z(2,3)); AdaptiveAvgPool1d(2)(z(3))
    AdaptiveAvgPool1d(2)(l); AdaptiveAvgPool2d(2)(z(3)); AdaptiveAvgPool2d((1,2,3))(z(2,4,4))
    AdaptiveAvgPool3d(2)(z(3)); AdaptiveMaxPool1d(2)(z(3)); AdaptiveMaxPool2d(2)(z(3))
    AdaptiveMaxPool2d(-1)(z(2,4,4)); AdaptiveMaxPool3d(2)(z(3))

    ConstantPad1d(1,0)(l); ConstantPad1d(-3,0)(z(2,3)); ConstantPad2d(1,0)(z(3))
    ConstantPad2d(-3,0)(z(2,3,3)); ConstantPad3d(1,0)(z(3)); ConstantPad3d(-3,0)(z(2,3,3,3))
    ZeroPad1d(-3)(z(2,3)); ZeroPad2d(1)(z(3)); ZeroPad3d(-3)(z(2,2,2,2))
    ReflectionPad1d(4)(z(2,3)); ReflectionPad1d(1)(z(3)); ReflectionPad2d(1)(z(3))
    ReflectionPad3d(1)(z(3)); ReplicationPad1d(1)(z(3)); ReplicationPad2d(1)(z(2,3))
    ReplicationPad3d(1)(z(2,3)); CircularPad1d(5)(z(2,3)); CircularPad2d(1)(z(3))
    CircularPad3d(1)(z(3)); Upsample()(z(1,1,2,2)); Upsample(2,3)(z(1,1,2,2))
    Upsample(scale_factor=2,mode="linear")(z(1,1,2,2)); Upsample(2,mode="x")(z(1,1,2,2))
    Upsample(2)(z(2,3)); UpsamplingNearest2d(2)(z(3)); UpsamplingBilinear2d(2)(z(2,3,4))
    PixelShuffle(2)(z(3,2,2)); PixelShuffle(2)(z(2,2)); PixelShuffle(0)(z(4,2,2))
    PixelUnshuffle(2)(z(3,3,2)); PixelUnshuffle(2)(z(2,2)); PixelUnshuffle(0)(z(1,2,2))

    CrossEntropyLoss()(z(4,3),i(5)); CrossEntropyLoss()(z(4,3),i(4)+3)
    CrossEntropyLoss()(z(4,3),z(4)); CrossEntropyLoss()(z(4,3),i(4,3))
    CrossEntropyLoss(z(2))(z(4,3),i(4)); CrossEntropyLoss()(z(4,3),l)
    CrossEntropyLoss(reduction="a")(z(4,3),i(4)); CrossEntropyLoss(label_smoothing=2)(z(4,3),i(4))
    CrossEntropyLoss()(z(4,3)); NLLLoss()(z(4,3),i(5)); NLLLoss()(z(4,3),z(4))
    BCELoss()(z(4),z(3)); BCELoss()(z(4)+2,z(4)); BCEWithLogitsLoss()(z(4),z(3))
    BCEWithLogitsLoss(pos_weight=z(2))(z(4),z(4)); MultiLabelSoftMarginLoss()(z(4,3),z(4,2))
    SoftMarginLoss()(z(4),z(3)); KLDivLoss()(z(4),z(3)); MSELoss()(z(4),z(3))
    MSELoss(reduction="a")(z(4),z(4)); MSELoss()(l,z(2)); MSELoss()(z(2),l); L1Loss()(z(4),z(3))
    L1Loss()(z(2),l); SmoothL1Loss(beta=-1)(z(4),z(4)); SmoothL1Loss()(z(4),z(3))
    HuberLoss(delta=0)(z(4),z(4)); HuberLoss()(z(4),z(3)); PoissonNLLLoss()(z(4),z(3))
    GaussianNLLLoss()(z(4),z(4),z(3)); GaussianNLLLoss()(z(4),z(4),z(4)-1)
    CosineEmbeddingLoss()(z(4,3),z(4,3),z(3)); CosineEmbeddingLoss()(z(4,3),z(4,2),z(4))
    MarginRankingLoss()(z(4),z(4),z(3)); MarginRankingLoss()(z(4),z(4),z(4,1))
    HingeEmbeddingLoss()(z(4),z(3)); TripletMarginLoss()(z(4,3),z(4,3),z(3))
    TripletMarginLoss()(z(4,3),z(4,3),z(4,2))

    RNN(3,4)(z(5,2,4)); RNN(3,4)(z(5)); RNN(3,4)(z(5,2,3),z(1,3,4)); LSTM(3,4)(z(5,2,4))
    LSTM(3,4)(z(5,2,3),z(1,2,4)); LSTM(3,4)(z(5,2,3),(z(1,2,4),z(1,2,3))); LSTM(3,4)(i(5,2,3))
    GRU(3,4)(z(5,2,4)); GRU(3,4)(z(5,2,3),z(2,2,4)); GRU(3,4)(l); GRU(3,4)(z(5,2,3),z(1,4))
    RNNCell(3,4)(z(2,4)); RNNCell(3,4)(z(2,3),z(2,5)); RNNCell(3,4)(l); LSTMCell(3,4)(z(2,4))
    LSTMCell(3,4)(z(2,3),(z(2,4),z(2,5))); GRUCell(3,4)(z(2,4)); GRUCell(3,4)(z(2,3),z(3,4))

    MultiheadAttention(4,2)(z(3,2,5),z(3,2,5),z(3,2,5))
    MultiheadAttention(4,2)(z(3,2,4),z(3,2,4),z(2,2,4)); MultiheadAttention(4,2)(z(4),z(4),z(4))
    MultiheadAttention(4,2)(z(3,2,4),z(3,2,4))
    MultiheadAttention(4,2)(z(3,2,4),z(3,2,4),z(3,2,4),attn_mask=z(2,2))
    MultiheadAttention(4,2)(z(3,2,4),z(3,2,4),z(3,2,4),z(2,2))
    MultiheadAttention(4,2)(z(3,2,4),z(3,2,4),z(3,2,4),is_causal=True)
    TransformerEncoderLayer(4,2,8)(z(3,2,5)); TransformerEncoderLayer(4,2,8)(z(4))
    TransformerEncoderLayer(4,2,8)(z(3,2,4),z(2,2)); TransformerDecoderLayer(4,2,8)(z(3,2,4))
    TransformerDecoderLayer(4,2,8)(z(3,2,4),z(3,2,5))
    TransformerDecoderLayer(4,2,8)(z(3,2,4),z(3,1,4))
    TransformerEncoder(TransformerEncoderLayer(4,2,8),2)(z(3,2,5))
    TransformerDecoder(TransformerDecoderLayer(4,2,8),2)(z(3,2,4),z(3,2,5))
    Transformer(4,2,1,1,8)(z(3,2,5),z(3,2,5)); Transformer(4,2,1,1,8)(z(3,2,4),z(3,1,4))
    Sequential(Linear(4,3),Linear(2,1))(z(2,4)); Sequential(Linear(4,3))(z(2,4),z(2))
""")

CONSTRUCTORS = calls("""
    Linear(-1,3); Linear(4,-3); Linear("4",3); Linear(4.0,3); Linear(4); Bilinear(0,4,2)
    Embedding(5,3,7); Embedding(-1,3); Embedding(3,2,_weight=z(2,2)); Unflatten(1,3)
    LayerNorm(-1); LayerNorm("a"); GroupNorm(3,4); BatchNorm1d(-1); BatchNorm2d("a")
    InstanceNorm1d(-1,affine=True); Dropout(1.5); Dropout(-0.1); Dropout("a"); Dropout1d(2)
    Dropout2d(-1); Dropout3d(3); Hardtanh(1,-1)
    Conv1d(4,2,3,groups=3); Conv2d(4,2,3,padding_mode="a"); Conv2d(4,2,3,padding="a")
    Conv2d(4,2,3,2,"same"); Conv2d(4,2,3,groups=0); Conv2d(-4,2,3); Conv2d("a",2,3)
    ConvTranspose2d(4,2,3,padding_mode="reflect"); ConvTranspose1d(4,3,3,groups=2)
    TripletMarginLoss(-1); RNN(3,0); RNN(3,4,0); RNN(0,4); RNN(3,-4); RNN(3,4,nonlinearity="a")
    LSTM(3,4,proj_size=4); LSTM(3,4,proj_size=-1); GRU(3,4,proj_size=2); AlphaDropout(2)
    LSTM(3,4,dropout=2); GRU(3,4,dropout=-1); MultiheadAttention(0,2)
    TransformerEncoderLayer(4,2,activation="x"); TransformerDecoderLayer(4,2,activation="x")
    Sequential(ReLU(),3); ModuleList([3]); ModuleDict({"a":3}); ModuleDict({1:ReLU()})
    ModuleDict({"":ReLU()}); ModuleDict({"a.b":ReLU()}); ParameterDict({1:z(2)})
""")

# PyTorch accepts these, or does so until they are called, or says something about a division.
STRICTER = calls("""
    Unflatten("a",(2,2)); Conv2d(4,2,0); Conv2d(4,2,(1,2,3)); Conv2d(4,2,3,stride=0)
    Conv2d(4,2,3,-1); AvgPool1d(0); ConstantPad1d((1,2,3),0); ZeroPad2d((1,2))
    RNNCell(3,4,nonlinearity="a"); Dropout3d()(z(2,3)); Linear(4,3,device="cuda"); GroupNorm(0,4)
    MultiheadAttention(4,3)
""")

# Where the type is another than PyTorch's: its complaint is one about another mistake that follows
# from this one, like a list without an attribute, or comes later.
KINDS = {
    "LocalResponseNorm(2)(l)": TypeError, "Dropout3d()(l)": TypeError, "GRU(3,4)(l)": TypeError,
    "RNNCell(3,4)(l)": TypeError, "BatchNorm1d(3)(l)": TypeError,
    "Tanhshrink()(l)": TypeError, "Softsign()(l)": TypeError, "Softmax(0)(l)": TypeError,
    "LogSoftmax(0)(l)": TypeError, "Softmax2d()(l)": TypeError, "GLU()(l)": TypeError,
    "MSELoss()(l,z(2))": TypeError, "MSELoss()(z(2),l)": TypeError, "L1Loss()(z(2),l)": TypeError,
    "Unfold(3)(z(2,2))": RuntimeError, "AvgPool2d(2)(z(3))": RuntimeError,
    "AdaptiveAvgPool2d((1,2,3))(z(2,4,4))": RuntimeError, "LSTM(3,4)(i(5,2,3))": RuntimeError,
    "CircularPad2d(1)(z(3))": RuntimeError, "CircularPad3d(1)(z(3))": RuntimeError,
    "LSTM(3,4)(z(5,2,3),z(1,2,4))": RuntimeError,
    "TransformerDecoderLayer(4,2,8)(z(3,2,4),z(3,2,5))": AssertionError,
    "TransformerDecoderLayer(4,2,8)(z(3,2,4),z(3,1,4))": AssertionError,
    "TransformerDecoder(TransformerDecoderLayer(4,2,8),2)(z(3,2,4),z(3,2,5))": AssertionError,
}  # fmt: skip

LAYERS = {
    name: cls
    for name, cls in vars(nn).items()
    if inspect.isclass(cls) and issubclass(cls, nn.Module) and "example" in vars(cls)
}


def names(lib: ModuleType) -> dict[str, Any]:
    return {
        **vars(lib.nn),
        "z": lambda *shape: lib.zeros(*shape),
        "i": lambda *shape: lib.zeros(*shape, dtype=lib.int64),
        "d": lambda *shape: lib.zeros(*shape, dtype=lib.float64),
        "l": [1.0, 2.0],
    }


def raised(lib: ModuleType, call: str) -> Exception:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of any type: it is compared
            eval(call, names(lib))
    return caught.value


@pytest.mark.parametrize("call", INPUTS)
def test_inputs(call: str) -> None:
    """The innermost layer is named, with what it expects and the shapes or types that it got."""
    split = re.match(r"(.*?\))(\((?:z|i|d|l|\)).*)", call)
    assert split
    module = eval(split[1], names(tensorgrad))
    message = str(raised(tensorgrad, call))
    found = re.match(r"(\w+)\(.*?\) expects .*?, got ", message)
    assert found, message
    if found[1] != type(module).__name__:  # what an inner layer got cannot be told from here
        assert found[1] in {type(part).__name__ for part in module.modules()}
        return
    dtypes = {"z": "float32", "i": "int64", "d": "float64"}
    for kind, shape in re.findall(r"\b([zid])\(([\d,]+)\)", split[2]):
        assert f"{dtypes[kind]} {eval(f'({shape},)')}" in message
    assert "list" in message or "(l" not in split[2]


@pytest.mark.parametrize("call", CONSTRUCTORS + STRICTER)
def test_constructors(call: str) -> None:
    name = call.partition("(")[0]
    if call == "Linear(4)":  # Python's own complaint
        name = "missing 1 required positional argument: 'out_features'"
    assert name in str(raised(tensorgrad, call))


@pytest.mark.torch
@pytest.mark.parametrize("call", INPUTS + CONSTRUCTORS)
def test_the_type_is_that_of_torch(torch: ModuleType, call: str) -> None:
    ours, theirs = raised(tensorgrad, call), raised(torch, call)
    if call in KINDS:
        assert not isinstance(ours, type(theirs)), "no difference any more"
        assert type(ours) is KINDS[call]
    else:
        assert isinstance(ours, type(theirs)), f"{ours!r}, but {theirs!r}"


def test_every_layer_is_here() -> None:
    listed = {call.partition("(")[0] for call in INPUTS}
    own = {"Identity", "SinusoidalPositions", "LearnedPositions", "RotaryPositions"}
    assert set(LAYERS) - listed == own  # the first takes everything; test_recurrent has the others


def test_a_message_in_full() -> None:
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(4, 3)(tensorgrad.zeros(2, 5))
    assert str(caught.value) == (
        "Linear(in_features=4, out_features=3, bias=True) expects [..., 4], got float32 (2, 5): "
        "linear: the input's last dim is 5 (shape (2, 5)), but the weight (3, 4) takes 4"
    )


# --- whose mistake it is --------------------------------------------------------------------------


class Mistaken(nn.Module):
    """A user's module: ``call`` is what it does."""

    def __init__(self, call: Callable) -> None:
        super().__init__()
        self.call = call
        self.inner = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.call(self, x)


def own_complaint(*_: Any) -> Any:
    raise ValueError("the user's own")


def message(module: nn.Module, *inputs: Any) -> str:
    with pytest.raises((RuntimeError, ValueError, TypeError, AttributeError)) as caught:
        module(*inputs)
    return str(caught.value)


@pytest.mark.parametrize("wrapped", [lambda m: m, nn.Sequential, lambda m: nn.Sequential(m, m)])
def test_complaints_of_users_modules_are_left_alone(wrapped: Callable) -> None:
    x = tensorgrad.zeros(2, 5)
    assert message(wrapped(Mistaken(own_complaint)), x) == "the user's own"
    functional = message(wrapped(Mistaken(lambda m, x: F.linear(x, m.inner.weight))), x)
    assert functional.startswith("linear: the input's last dim is 5")
    inner = message(wrapped(Mistaken(lambda m, x: m.inner(x))), x)
    assert inner.startswith("Linear(in_features=4, out_features=3, bias=True) expects")
    assert inner.count("expects") == 1
    assert "no attribute 'abc'" in message(wrapped(Mistaken(lambda m, x: m.abc)), x)
    assert "no attribute 'shape'" in message(wrapped(Mistaken(lambda m, x: [].shape)), x)
    assert "but 2 were given" in message(wrapped(Mistaken(lambda m: 0)), x)


def test_complaints_of_functions_and_hooks_are_left_alone() -> None:
    x = tensorgrad.zeros(3, 2, 4)
    layer = nn.TransformerEncoderLayer(4, 2, 8, activation=own_complaint)
    assert message(layer, x) == "the user's own"
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        linear = nn.Linear(4, 4)
        getattr(linear, register)(own_complaint)
        assert message(nn.Sequential(linear), x) == "the user's own"
    linear = nn.Linear(4, 4)
    linear.register_forward_hook(lambda *_: None)
    assert message(linear, x[..., :2]).startswith("Linear(in_features=4")


def test_a_users_subclass_of_a_layer_is_named() -> None:
    class Mine(nn.Linear):
        pass

    assert message(Mine(4, 3), tensorgrad.zeros(2, 5)).startswith("Mine(in_features=4")


def test_other_exceptions_pass() -> None:
    """KeyError, an error with other arguments, and the traceback of all."""
    for error in (KeyError("k"), KeyboardInterrupt(), RuntimeError("a", 1), RuntimeError()):

        class Raising(nn.Linear):
            def forward(self, x: Any, error: BaseException = error) -> Any:
                raise error

        with pytest.raises(type(error)) as caught:
            nn.Sequential(Raising(2, 2))(tensorgrad.zeros(2))
        assert caught.value is error
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(4, 3)(tensorgrad.zeros(2, 5))
    assert caught.traceback[-1].name == "linear"
    assert caught.value.__cause__ is None
