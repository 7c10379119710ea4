"""Save and restore of trees: every kind of leaf, bytes equal; and what is refused, with what is left as it was."""
import collections
import math
import os
import textwrap

import ml_dtypes
import numpy as np
import pytest
from conftest import PACKAGE, free_port, python, run_python

import thole
from thole import Rows, TholeError, _arrays

DTYPES = sorted(_arrays.ITEM_SIZE)


def some(dtype, shape, seed=0):
    """Random bits of a dtype, NaNs and infinities among them."""
    random = np.random.default_rng([seed, len(dtype)])
    dtype = _arrays.numpy_dtype(dtype)
    if dtype == bool:
        return random.integers(0, 2, shape).astype(bool)
    return np.frombuffer(random.bytes(max(1, math.prod(shape)) * dtype.itemsize), dtype)[: math.prod(shape)].reshape(shape).copy()


def same(one, other):
    """Equal to the bit, NaNs included."""
    if isinstance(one, dict):
        return type(other) is dict and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and (one == other or one != one and other != other)


def refused(call, reason="ItemBad", *words):
    with pytest.raises(TholeError) as caught:
        call()
    assert caught.value.reason == reason, caught.value
    for word in words:
        assert word in caught.value.message, caught.value.message
    return caught.value


def test_values_of_every_kind(store):
    tree = {"int": [0, -1, 2**63 - 1, -(2**63)], "float": (0.0, -0.0, math.inf, math.nan, 5e-324), "bool": {"t": True, "f": False},
            "str": ["", "žluťoučký kůň", "a\0b", "line\n"], "bytes": [b"", b"\x00\xff", bytearray(b"x"), memoryview(b"y")],
            "none": None, "empty": {"dict": {}, "list": [], "tuple": ()}, 7: {"~/~1": 1, "a/b": {"c": 2}}}
    mine = store.rank()
    assert mine.restore() is None
    sealed = mine.save(3, tree)
    assert (sealed.step, sealed.committed, sealed.missing) == (3, True, 0) and sealed.file_bytes >= sealed.bytes > 0
    wanted = {**tree, "bytes": [b"", b"\x00\xff", b"x", b"y"]}
    assert same(wanted, mine.restore()) and same(wanted, mine.restore(like=tree)) and mine.restored_step == 3


@pytest.mark.parametrize("root", [5, "text", [1, 2], (), {}, np.arange(3)])
def test_any_leaf_or_container_may_be_the_whole_tree(store, root):
    store.rank().save(1, root)
    assert same(root, store.rank(attempt=2).restore())


def test_arrays_of_every_dtype_and_shape(store):
    shapes = [(), (1,), (0,), (7,), (3, 0, 2), (0, 3), (4, 5), (2, 3, 4, 1)]
    tree = {dtype: {str(shape): some(dtype, shape, n) for n, shape in enumerate(shapes)} for dtype in DTYPES}
    store.rank().save(10, tree)
    assert same(tree, store.rank(attempt=2).restore())
    print(f"{len(DTYPES)} dtypes of {len(DTYPES)} in {len(shapes)} shapes")


def test_arrays_that_do_not_lie_as_a_checkpoint_wants_them(store):
    base = np.arange(60, dtype=np.float64).reshape(3, 4, 5)
    read_only = base.copy()
    read_only.flags.writeable = False
    tree = {"transposed": base.T, "strided": base[::2, ::-1], "fortran": np.asfortranarray(base), "big endian": base.astype(">f8"),
            "read only": read_only, "broadcast": np.broadcast_to(np.int32(7), (4, 3)), "scalar": np.float32(1.5), "zero d": np.array(3)}
    store.rank().save(1, tree)
    saved = store.rank(attempt=2).restore()
    for name, array in tree.items():
        plain = np.asarray(array).astype(np.asarray(array).dtype.newbyteorder("="))
        assert same(np.ascontiguousarray(plain).reshape(plain.shape), saved[name]), name


def test_restoring_into_what_is_there(store):
    tree = {"a": np.arange(6.0), "b": np.arange(6).reshape(2, 3), "c": np.float32(2), "n": 1}
    store.rank().save(1, tree)
    backing = np.zeros((6, 2))
    like = {"a": backing[:, 0], "b": np.zeros((2, 3), int), "c": np.float32(0), "n": 0}
    b = like["b"]
    out = store.rank(attempt=2).restore(like)
    assert out["b"] is b and same(tree["b"], b), "a contiguous array is filled in place"
    assert (backing[:, 0] == tree["a"]).all() and not backing[:, 1].any(), "a strided one through a copy"
    assert out["c"] == 2 and type(out["c"]) is np.float32 and out["n"] == 1
    read_only = np.zeros(6)
    read_only.flags.writeable = False
    out = store.rank(attempt=2).restore({**like, "a": read_only})
    assert not read_only.any() and same(out["a"], tree["a"])
    assert same(store.rank(attempt=2).restore({"a": None, "b": b, "c": None, "n": 0}), tree), "None takes what is there"


Moments = collections.namedtuple("Moments", "mean variance")


def test_named_tuples_come_back_through_like(store):
    tree = {"optimizer": Moments(np.ones(2), np.zeros(2))}
    store.rank().save(1, tree)
    assert type(store.rank(attempt=2).restore()["optimizer"]) is tuple
    assert type(store.rank(attempt=2).restore(tree)["optimizer"]) is Moments


class Custom:
    pass


@pytest.mark.parametrize("leaf, word", [
    (np.array([1, "a"], object), "Python objects"), (np.array(["abc"]), "dtype str"), (np.array([b"abc"]), "dtype bytes"),
    (np.zeros(2, [("x", "f4")]), "dtype"), (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
    (np.zeros(2, np.longdouble), "float128"), (np.ma.array([1, 2], mask=[0, 1]), "mask"), (np.zeros(2, ml_dtypes.int4), "int4"),
    (Custom(), "Custom"), ({1, 2}, "set"), (1j, "complex"), (2**63, "64 bits"), ("\ud800", "surrogates"), ({(1, 2): 3}, "tuple"),
    ({1: 1, "1": 2}, "same name"), ({"": 1}, "empty key"), ({None: 1}, "NoneType"), (lambda: 0, "function"), (b"x" * (2**24 + 1), "uint8")])
def test_what_cannot_be_saved_is_refused_before_anything_is_written(store, leaf, word):
    refused(lambda: store.rank().save(1, {"good": np.ones(3), "bad": leaf}), "ItemBad", "bad", word)
    assert store.rank().restore() is None
    store.rank().save(1, {"good": np.ones(3)})


def test_a_tree_that_holds_itself_is_refused(store):
    tree = {}
    tree["again"] = tree
    refused(lambda: store.rank().save(1, tree), "ItemBad", "deeper")


@pytest.mark.parametrize("like, word", [
    ({"a": np.zeros(4), "n": 1, "l": [1, 2]}, "shape (3,) in the checkpoint and (4,)"),
    ({"a": np.zeros(3, np.float32), "n": 1, "l": [1, 2]}, "float64 in the checkpoint and float32"),
    ({"a": 1, "n": 1, "l": [1, 2]}, "an array in the checkpoint and int"), ({"a": np.zeros(3), "n": np.zeros(3), "l": [1, 2]}, "int"),
    ({"a": np.zeros(3), "n": 1.0, "l": [1, 2]}, "float"), ({"a": np.zeros(3), "n": 1}, "besides"),
    ({"a": np.zeros(3), "n": 1, "l": [1, 2], "more": 1}, "lacks ['more']"), ({"a": np.zeros(3), "n": 1, "l": [1, 2, 3]}, "2 elements"),
    ({"a": np.zeros(3), "n": 1, "l": (1, 2)}, "a list in the checkpoint and a tuple"), ([1], "a dict in the checkpoint and a list"),
    ({"a": [np.zeros(3)], "n": 1, "l": [1, 2]}, "tensor")])
def test_a_tree_of_another_form_is_refused_and_left_as_it_was(store, like, word):
    store.rank().save(1, {"a": np.arange(3.0) + 1, "n": 1, "l": [1, 2]})
    refused(lambda: store.rank(attempt=2).restore(like), "ItemBad", word)
    if isinstance(like, dict) and isinstance(like["a"], np.ndarray):
        assert not like["a"].any()


def test_steps_and_the_newest(store):
    mine = store.rank()
    for step in (5, 10):
        mine.save(step, {"step": step})
    refused(lambda: mine.save(10, {"step": 10}), "PartExists")
    assert mine.restore() == {"step": 10} and mine.restore(step=5) == {"step": 5}
    refused(lambda: mine.restore(step=7), "CheckpointNone")
    assert [i.step for i in mine.list()] == [10, 5] and {i.state for i in mine.list()} == {"committed"}
    assert mine.verify().parts == 1
    second = store.rank(attempt=2)
    assert second.restore() == {"step": 10}
    # From here on the first attempt is over.
    refused(lambda: mine.save(15, {"step": 15}), "AttemptFenced")
    assert store.rank(attempt=2).restore() == {"step": 10}


def test_the_rank_that_commits_keeps_the_newest_only(store):
    """keep 2 of five steps, by whichever rank seals last; what the next attempt goes on from is among them."""
    for step in range(1, 6):
        for r in (0, 1, 2) if step % 2 else (2, 1, 0):
            last = store.rank(r, 3, keep=2).save(step, {"step": step})
        assert last.committed
    assert [(i.step, i.state) for i in store.rank().list()] == [(5, "committed"), (4, "committed")]
    second = store.rank(attempt=2, keep=1)
    assert second.restore() == {"step": 5}
    second.save(6, {"step": 6})
    assert [i.step for i in store.rank(attempt=2).list()] == [6] and second.restore() == {"step": 6}


def test_without_keep_nothing_is_removed(store):
    for step in range(1, 6):
        store.rank().save(step, {"step": step})
    assert len(store.rank().list()) == 5
    for keep in (-1, 2**32, 2**32 + 1):  # the last would be 1 in 32 bits
        refused(lambda: store.rank(keep=keep), "OverBound", str(keep))


def test_a_peer_that_restores_keeps_what_it_reads(store):
    """keep 1: rank 0 has saved, rank 1 restores still. Nothing is committed without rank 1, so nothing goes from under it."""
    first = [store.rank(r, 2, keep=1) for r in (0, 1)]
    for rank in first:
        rank.save(10, {"a": np.arange(1000)})
    fast, slow = (store.rank(r, 2, attempt=2, keep=1) for r in (0, 1))
    fast.restore()
    assert not fast.save(20, {"a": np.arange(1000)}).committed
    assert same(slow.restore(), {"a": np.arange(1000)})
    assert slow.save(20, {"a": np.arange(1000)}).committed
    assert [i.step for i in store.rank().list()] == [20]


OLD_STAYS = textwrap.dedent("""
    import os, thole
    run = thole.join()
    run.save(1, {"n": 1})
    stuck = os.path.join(run.checkpoint.list()[0].path, "stuck")
    os.symlink("nowhere", stuck)  # what is no file of a checkpoint ends every look at the store
    for step in (2, 3, 4):
        assert run.save(step, {"n": step}).committed
    os.remove(stuck)
    run.save(5, {"n": 5})
    print([i.step for i in run.checkpoint.list()], run.restore())
""")


def test_old_ones_that_cannot_be_removed_are_told_once_and_end_nothing(store):
    code, output = run_python(OLD_STAYS, store.environment(THOLE_CHECKPOINT_KEEP=1))
    assert code == 0 and output.count("old checkpoints cannot be removed") == 1, output
    assert output.endswith("[5] {'n': 5}\n"), output


def cut(array, ranks):
    """Uneven rows of an array, for each rank."""
    edges = [len(array) * r * r // (ranks * ranks) for r in range(ranks + 1)]
    return [Rows(array[a:b], a, len(array)) for a, b in zip(edges, edges[1:])]


@pytest.mark.parametrize("others", [1, 3, 4, 5])
def test_what_four_ranks_saved_other_numbers_restore(store, others):
    whole, table = some("float32", (1001,)), some("bfloat16", (50, 3, 2), 1)
    replicated = {"weights": [some("float32", (64, 10), n) for n in range(7)], "step": 40}
    committed = [store.rank(r, 4).save(40, {**replicated, "mean": cut(whole, 4)[r], "table": cut(table, 4)[r]}).committed
                 for r in range(4)]
    assert committed == [False, False, False, True]
    for r in range(others):
        like = {**replicated, "weights": [np.zeros_like(w) for w in replicated["weights"]],
                "mean": Rows(np.zeros_like(cut(whole, others)[r].array), cut(whole, others)[r].first, 1001),
                "table": Rows(np.zeros_like(cut(table, others)[r].array), cut(table, others)[r].first, 50)}
        out = store.rank(r, others, attempt=2).restore(like)
        assert same(out["weights"], replicated["weights"]) and out["step"] == 40
        assert same(out["mean"].array, cut(whole, others)[r].array) and same(out["table"].array, cut(table, others)[r].array)
    everything = store.rank(attempt=2).restore()
    assert same(everything["mean"], whole) and same(everything["table"], table)


def test_a_save_by_some_ranks_only_is_no_checkpoint(store):
    for r in range(4):
        store.rank(r, 4).save(10, {"step": 10, "a": np.arange(5)})
    for r in range(3):
        sealed = store.rank(r, 4).save(20, {"step": 20, "a": np.arange(5)})
        assert not sealed.committed and sealed.missing == 3 - r
    assert store.rank(0, 4, attempt=2).restore()["step"] == 10


@pytest.mark.parametrize("difference", [{"step": 2}, {"a": np.arange(6)}, {"a": np.arange(5).astype(np.int32)}, {"more": 1}])
def test_ranks_that_do_not_agree_are_told(store, difference):
    tree = {"step": 1, "a": np.arange(5)}
    store.rank(0, 2).save(1, tree)
    refused(lambda: store.rank(1, 2).save(1, {**tree, **difference}), "PartsDisagree")
    assert store.rank(0, 2, attempt=2).restore() is None


@pytest.mark.parametrize("second", [Rows(np.arange(4.0), 4, 10), Rows(np.arange(6.0), 4, 11), Rows(np.arange(7.0), 3, 10)])
def test_rows_with_a_hole_or_an_overlap_are_told(store, second):
    if second.first == 4 and second.total == 10:  # 0..4 and 4..8 of 10: two rows are nobody's
        assert len(second.array) == 4
    store.rank(0, 2).save(1, {"m": Rows(np.arange(4.0), 0, 10)})
    refused(lambda: store.rank(1, 2).save(1, {"m": second}), "PartsDisagree")


def test_rows_are_checked_where_they_are_made():
    for first, total in ((-1, 10), (8, 10)):
        refused(lambda: Rows(np.arange(3), first, total), "ItemBad")
    refused(lambda: Rows(np.array(3), 0, 1), "ItemBad", "0-d")


def test_jax_arrays(store):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    tree = {"f": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(4, dtype=jnp.bfloat16), "8": jnp.ones(3, jnp.float8_e5m2),
            "0": jnp.int32(4), "e": jnp.zeros((0, 2))}
    store.rank().save(1, tree)
    out = store.rank(attempt=2).restore(jax.tree.map(jnp.zeros_like, tree))
    assert all(isinstance(a, jax.Array) for a in out.values())
    assert same({k: np.asarray(v) for k, v in tree.items()}, {k: np.asarray(v) for k, v in out.items()})
    assert same({k: np.asarray(v) for k, v in tree.items()}, store.rank(attempt=2).restore())
    refused(lambda: store.rank(attempt=2).save(2, {"key": jax.random.key(0)}), "ItemBad", "key")
    with pytest.raises(TholeError, match="outside of jit"):
        jax.jit(lambda x: store.rank(attempt=2).save(3, {"x": x}))(jnp.ones(2))


SPREAD = textwrap.dedent("""
    import os, sys
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import jax, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    rank, ranks, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", ranks, rank)
    import thole
    mesh = Mesh(np.array(jax.devices()).reshape(ranks, 2), ("rank", "core"))
    make = lambda a, spec: jax.make_array_from_callback(a.shape, NamedSharding(mesh, spec), lambda i: a[i])
    values = {"whole": np.arange(12.0, dtype=np.float32), "rows": np.arange(24).reshape(8, 3).astype(np.int32),
              "all": np.arange(16.0, dtype=np.float32), "half": np.arange(8, dtype=np.float32)}
    specs = {"whole": P(), "rows": P("rank"), "all": P(("rank", "core")), "half": P("core")}
    tree = {k: make(v, specs[k]) for k, v in values.items()}
    store = thole.Checkpoints(os.environ["THOLE_STORE"], run=os.environ["THOLE_RUN"], key=os.environ["THOLE_KEY"],
                              rank=rank, world_size=ranks)
    store.save(1, tree)
    inner = make(np.zeros((2, 4), np.float32), P(None, ("rank", "core")))
    try:
        store.save(2, {"inner": inner})
    except thole.TholeError as error:
        print(error.reason, error.message)
    import time
    while not any(i.step == 1 and i.state == "committed" for i in store.list()):
        time.sleep(0.05)
    out = store.restore({k: make(np.zeros_like(v), specs[k]) for k, v in values.items()})
    for name, value in values.items():
        for shard in out[name].addressable_shards:
            assert (np.asarray(shard.data) == value[shard.index]).all(), name
        assert out[name].sharding == tree[name].sharding
    print("equal")
""")


def test_jax_arrays_that_are_spread_over_processes(store):
    pytest.importorskip("jax")
    port = free_port()
    ranks = [python("-c", SPREAD, r, 2, port, environment=store.environment()) for r in range(2)]
    said = [p.communicate(timeout=120)[0] for p in ranks]
    for text in said:
        assert "equal" in text and "ItemBad" in text and "inner dimension" in text, text
    values = store.rank(attempt=2).restore()
    assert (values["rows"] == np.arange(24).reshape(8, 3)).all() and (values["half"] == np.arange(8)).all()


def test_torch_tensors(store):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    base = torch.arange(12.0).reshape(3, 4)
    tree = {"f": base, "t": base.t(), "b": torch.arange(4).to(torch.bfloat16), "8": torch.ones(3).to(torch.float8_e4m3fn),
            "p": torch.nn.Parameter(torch.ones(2)), "c": torch.tensor([1 + 2j]).conj(), "0": torch.tensor(5), "e": torch.zeros(0, 3)}
    store.rank().save(1, tree)
    like = {k: torch.zeros_like(v) for k, v in tree.items()}
    out = store.rank(attempt=2).restore(like)
    for name, tensor in tree.items():
        assert out[name] is like[name] and out[name].dtype == tensor.dtype
        assert torch.equal(out[name].detach().float() if tensor.dtype != torch.complex64 else out[name].resolve_conj(),
                           tensor.detach().float() if tensor.dtype != torch.complex64 else tensor.resolve_conj()), name
    refused(lambda: store.rank(attempt=2).save(2, {"s": torch.eye(3).to_sparse()}), "ItemBad", "sparse")


def test_what_speaks_dlpack_is_an_array(store):
    class Other:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    store.rank().save(1, {"x": Other(np.arange(5.0))})
    assert same(store.rank(attempt=2).restore(), {"x": np.arange(5.0)})


def test_no_copy_is_made_of_contiguous_memory(monkeypatch):
    array = np.arange(1000.0)
    box = _arrays.tensor_leaf("a", array).box(True)
    assert box.address == array.ctypes.data and box.size == array.nbytes
    jax = pytest.importorskip("jax")
    on_cpu = jax.numpy.arange(1000.0)
    assert _arrays.tensor_leaf("a", on_cpu).box(True).address == on_cpu.unsafe_buffer_pointer()


def test_nothing_is_ever_unpickled_or_imported_by_name():
    """No module of the package mentions a way to turn bytes into code, and a restored tree is made of plain types."""
    for path in (PACKAGE / "thole").glob("*.py"):
        text = path.read_text()
        for word in ("pickle", "eval(", "exec(", "marshal", "import_module", "__import__"):
            assert word not in text.replace("unpickled", ""), f"{path.name}: {word}"


def test_a_tensor_of_more_than_four_gib(store):
    if not os.environ.get("THOLE_TEST_HUGE"):
        pytest.skip("writes 4.3 GB: set THOLE_TEST_HUGE=1")
    array = np.zeros(2**32 + 4097, np.uint8)
    array[:: 2**20 + 7] = 1
    array[-1] = 77
    store.rank().save(1, {"huge": array})
    like = {"huge": Rows(np.zeros(5000, np.uint8), len(array) - 5000, len(array))}
    assert same(store.rank(attempt=2).restore(like)["huge"].array, array[-5000:])
    assert same(store.rank(attempt=2).restore()["huge"], array)


def test_keys(store, tmp_path):
    refused(lambda: thole.checkpoint.new_key(store.key), "KeyExists")
    assert store.key.stat().st_mode & 0o777 == 0o600
    store.rank().save(1, {"a": 1})
    other = tmp_path / "other"
    thole.checkpoint.new_key(other)
    wrong = thole.Checkpoints(store.folder, run=store.run, key=other, attempt=2)
    refused(wrong.restore, "KeyWrong")
    refused(thole.Checkpoints(store.folder, run=store.run, key=tmp_path / "none", attempt=2).restore, "KeyMissing")
    refused(lambda: thole.Checkpoints(store.folder, run=store.run), "KeyMissing")


def test_an_error_can_cross_a_process_pool():
    import pickle  # of an exception, between processes of one program; checkpoints have none

    error = pickle.loads(pickle.dumps(TholeError("THOLE_INVALID", "ItemBad", "a sentence", 5)))
    assert (error.code, error.reason, error.message, error.os_errno) == ("THOLE_INVALID", "ItemBad", "a sentence", 5)


FORK = textwrap.dedent("""
    import os, thole
    store = lambda: thole.Checkpoints(os.environ["THOLE_STORE"], run=os.environ["THOLE_RUN"], key=os.environ["THOLE_KEY"])
    mine = store()
    mine.save(1, {"a": 1})
    child = os.fork()
    if child == 0:
        os._exit(0 if store().restore(step=1) == {"a": 1} and mine.restore() == {"a": 1} else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mine.save(2, {"a": 2})
    print(mine.restore())
""")


def test_a_forked_child_opens_a_core_of_its_own(store):
    assert run_python(FORK, store.environment()) == (0, "{'a': 2}\n")
