"""benchmarks/kernel_instructions.py: counts in the machine code of a small kernel."""

from __future__ import annotations

import kernel_instructions
import pytest
from kernel_instructions import Instruction, count, innermost_loops, kernel_row, product_rows, read_instructions
from kernel_registers import kernel_name

# What cuobjdump and c++filt write of two nested loops, of which nvcc 13.0 made three; the inner one adds four products.
SASS = """
Function : void phasevae::cuda::(anonymous namespace)::toy_kernel<float>(float4 const*, float*, int, int)
.headerflags	@"EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
/*0000*/    LDC R1, c[0x0][0x28] ;
/*0010*/    LDC R0, c[0x0][0x220] ;
/*0020*/    ISETP.GE.AND P0, PT, R0, 0x1, PT ;
/*0030*/    @!P0 EXIT ;
/*0040*/    ULDC UR4, c[0x0][0x224] ;    /* 0x0000890000047ab9 */
/*0050*/    ULDC.64 UR8, c[0x0][0x208] ;    /* 0x0000820000087ab9 */
    /* 0x000fe20000000a00 */
/*0060*/    ISETP.LT.AND P0, PT, RZ, UR4, PT ;
/*0070*/    @P0 BRA 0x100 ;
/*0080*/    LDC.64 R4, c[0x0][0x218] ;
/*0090*/    HFMA2.MMA R7, -RZ, RZ, 0, 0 ;
/*00a0*/    IMAD.WIDE R2, R7.reuse, 0x4, R4 ;
/*00b0*/    IADD3 R7, R7, 0x1, RZ ;
/*00c0*/    ISETP.GE.AND P0, PT, R7, R0, PT ;
/*00d0*/    STG.E desc[UR8][R2.64], RZ ;
/*00e0*/    @!P0 BRA 0xa0 ;
/*00f0*/    EXIT ;
/*0100*/    IMAD.MOV.U32 R9, RZ, RZ, RZ ;
/*0110*/    ULDC.64 UR6, c[0x0][0x210] ;
/*0120*/    LDC R2, c[0x0][0x224] ;
/*0130*/    MOV R11, RZ ;
/*0140*/    UMOV UR4, URZ ;
/*0150*/    IMAD.U32 R4, RZ, RZ, UR6 ;
/*0160*/    MOV R5, UR7 ;
/*0170*/    LDG.E.128 R4, desc[UR8][R4.64] ;    /* 0x0000000804047981 */
    /* 0x000ea2000c1e1d00 */
/*0180*/    UIADD3 UR4, UR4, 0x1, URZ ;
/*0190*/    UIADD3 UR6, UP0, UR6, 0x10, URZ ;
/*01a0*/    ISETP.LE.AND P0, PT, R2, UR4, PT ;
/*01b0*/    UIADD3.X UR7, URZ, UR7, URZ, UP0, !UPT ;
/*01c0*/    FFMA R11, R4, R5, R11 ;
/*01d0*/    FFMA R11, R6, R7, R11 ;
/*01e0*/    FFMA R0, R4, R7, R11 ;
/*01f0*/    FFMA R11, R5, R7, R0 ;
/*0200*/    @!P0 BRA 0x150 ;    /* 0xfffffffc00d08947 */
/*0210*/    LDC.64 R2, c[0x0][0x218] ;
/*0220*/    ULDC UR4, c[0x0][0x220] ;
/*0230*/    IMAD.WIDE R2, R9, 0x4, R2 ;
/*0240*/    VIADD R9, R9, 0x1 ;
/*0250*/    STG.E desc[UR8][R2.64], R11 ;
/*0260*/    ISETP.GE.AND P0, PT, R9, UR4, PT ;
/*0270*/    @!P0 BRA 0x120 ;
/*0280*/    EXIT ;
/*0290*/    BRA 0x290 ;
/*02a0*/    NOP ;
/*02b0*/    NOP ;
"""


@pytest.fixture(scope="module")
def kernel():
    return read_instructions(SASS)


def test_every_instruction_is_read_but_the_padding(kernel):
    assert [one.address for one in kernel] == list(range(0, 0x2A0, 0x10))
    assert kernel_name(SASS) == "toy"


def test_memory_is_counted_by_width_and_predicates_are_no_operations(kernel):
    counts = count(kernel)
    expected = {"FFMA": 4, "LDG.128": 1, "LDG.64": 0, "LDG": 0, "STG": 2, "LDC": 5, "EXIT": 3, "BRA": 5}
    assert {name: counts[name] for name in expected} == expected
    assert sum(counts.values()) == len(kernel)


def test_a_loop_within_another_is_innermost_and_the_trap_at_the_end_is_none(kernel):
    loops = [(loop[0].address, loop[-1].address) for loop in innermost_loops(kernel)]
    assert loops == [(0xA0, 0xE0), (0x150, 0x200)]


def test_the_tables(kernel):
    assert kernel_row("toy", kernel) == "| toy | 42 | 12 | 1 + 0 + 0 | 0 + 0 + 2 | 10 % |  |"
    assert product_rows("toy", kernel) == ["| toy | 12 | 4 | 3.00 | 1 + 0 + 0 | 0 + 0 + 0 | 0 + 0 + 0 |"]


def test_an_instruction_of_a_tensor_core_is_32_products_of_a_thread():
    loop = [Instruction(0, "LDS.64", None), Instruction(16, "HMMA.1688.F32.TF32", None), Instruction(32, "BRA", 0)]
    assert product_rows("toy", loop) == ["| toy | 3 | 32 | 0.09 | 0 + 0 + 0 | 0 + 1 + 0 | 0 + 0 + 0 |"]


def test_a_kernel_is_named_by_its_tiles_and_its_arithmetic():
    tiles = "Tile<128, 16, 2, {0}>, phasevae::cuda::Tile<16, 128, 2, {0}>"
    names = [kernel_name(f"layer_kernel<phasevae::cuda::{tiles.format(tf32)} >(Layer)") for tf32 in ("false", "true")]
    assert names == ["layer, 128 x 16, 16 x 128", "layer, 128 x 16, 16 x 128, TF32"]


def test_a_missing_tool_is_named_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["kernel_instructions.py", "--nvcc", "no-such-nvcc"])
    monkeypatch.setattr(kernel_instructions.shutil, "which", lambda tool: None if tool != "nvdisasm" else tool)
    assert kernel_instructions.main() == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == ("PATH: has no no-such-nvcc, cuobjdump, must have nvcc, cuobjdump and nvdisasm (see --help)\n")
