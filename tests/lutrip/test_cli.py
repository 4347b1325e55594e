"""The command line: exit statuses and single-line errors."""

from __future__ import annotations

import json

import pytest

from lutrip.cli import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_or_options(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert f"lutrip {command}" in text


def compile_tiny(*more):
    return ["compile", "--model", "shape:tiny", "--hw", "tiny", "--scheme", "lut2d-tiny", *more]


def compile_layer(*more):
    return compile_tiny("--layers", "0:1", *more)


@pytest.mark.parametrize(("argv", "part"), [
    (["nothing"], "No such command 'nothing'"),
    (["compile", "--model", "shape:tiny"], "Missing option '--scheme'"),
    (compile_tiny("--out", "x", "--layers", "one"), "--layers must be A:B such as 0:1, not 'one'"),
    (compile_tiny("--out", "x", "--layers", "2:3"), "layers 2:3 are not in the model's 0:2"),
    (compile_tiny("--out", "x", "--parts", "mlp"), "--parts belongs to --layers"),
    (compile_tiny("--out", "x", "--capacity", "20"), "39 positions exceed the key-value capacity"),
    (compile_tiny("--out", "x", "--new-tokens", "600"), "tiny was made for 512"),
    (compile_tiny("--out", "x", "--hw", "ecp5-85"), "has no multiplier array"),
    (compile_layer("--out", "x", "--parts", "mpl"), "parts must be some of qkvo, mlp, not mpl"),
    (compile_layer("--out", "x", "--prompt", "a b"), "the prompt has 3 tokens, fewer than the 8"),
    (compile_tiny("--out", "x", "--tokens", "0"), "0 is not in the range"),
    (compile_tiny("--out", "x", "--scheme", "lut2d"), "64 activation centroids, it searches 8"),
    (compile_tiny("--out", "x", "--model", "shape:tyni"), "tyni"),
    (compile_tiny("--out", "x", "--model", "no.gguf"), "no.gguf"),
    (compile_tiny("--out", "x", "--hw", "tinny"), "did you mean tiny?"),
    (compile_tiny("--out", "x", "--scheme", "lut3d"), "did you mean lut2d?"),
    (["simulate", "no-such-build"], "no-such-build"),
    (["disasm", "no-such-build"], "no-such-build"),
    (["report", "no-such-run"], "no-such-run"),
    (["generate", "--hw", "none", "--out", "x"], "no hardware configuration called 'none'"),
])
def test_wrong_input_is_one_line_and_status_2(argv, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("lutrip: error: ")
    assert printed.err.count("\n") == 1
    assert part in printed.err
    assert not list(tmp_path.iterdir())


def test_compile_and_disasm(capsys, tmp_path):
    out, report = tmp_path / "build", tmp_path / "compile.json"
    assert main(compile_layer("--out", str(out), "--json", str(report))) == 0
    values = json.loads(report.read_text())
    assert values["tokens"] == 8
    assert set(values["relative_error"]) >= {"layers.0.q", "layers.0.down", "layers.0.mlp"}
    capsys.readouterr()
    assert main(["disasm", str(out)]) == 0
    assert "LUT" in capsys.readouterr().out
    image = out / "image.bin"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 4
    image.write_bytes(data)
    for command in ("disasm", "simulate"):
        assert main([command, str(out)]) == 2
        assert "checksum" in capsys.readouterr().err


def test_compile_a_whole_model(capsys, tmp_path):
    out, report = tmp_path / "build", tmp_path / "compile.json"
    assert main(compile_tiny("--out", str(out), "--new-tokens", "2", "--prompt", "Ham",
                             "--scheme", "simd-w8a8-tiny", "--json", str(report))) == 0
    values = json.loads(report.read_text())
    assert len(values["prompt_tokens"]) == 3
    assert values["passes"] == 2
    assert values["residual"]["headroom"] > 8
    addresses = [part["address"] for part in values["memory_map"]]
    assert addresses == sorted(addresses)
    capsys.readouterr()
    assert main(["disasm", str(out)]) == 0
    assert "SOFTMAX" in capsys.readouterr().out
    image = out / "image.bin"
    image.write_bytes(image.read_bytes()[:-64])
    for command in ("disasm", "simulate"):
        assert main([command, str(out)]) == 2
        assert "incomplete" in capsys.readouterr().err


def test_a_new_build_or_run_discards_the_old_result(tmp_path, monkeypatch):
    out = tmp_path / "build"
    arguments = compile_layer("--out", str(out), "--parts", "mlp")
    assert main(arguments) == 0
    for again in (arguments, ["simulate", str(out), "--simulator", "icarus"]):
        (out / "result.json").write_text("{}")
        with monkeypatch.context() as patch:
            patch.setenv("PATH", str(tmp_path))
            main(again)
        assert not (out / "result.json").exists()


def test_tool_that_is_missing_is_status_3(capsys, tmp_path, monkeypatch):
    out = tmp_path / "build"
    assert main(compile_layer("--out", str(out), "--parts", "mlp")) == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    capsys.readouterr()
    assert main(["simulate", str(out), "--simulator", "icarus"]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "iverilog" in error


def test_doctor_lists_tools(capsys, tmp_path):
    report = tmp_path / "doctor.json"
    assert main(["doctor", "--json", str(report)]) == 0
    tools = {tool["name"]: tool for tool in json.loads(report.read_text())["tools"]}
    assert tools["verilator"]["version"]
    assert all(tool["needed_by"] and tool["how_to_get"] for tool in tools.values())
