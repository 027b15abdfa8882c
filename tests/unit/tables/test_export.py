"""`points export`: what is written is read again as the same, cell by cell."""

import shutil
from pathlib import Path

import openpyxl
import pytest

from tests.unit.tables.plant import Plant

SHIPPED = Path(__file__).parents[3] / "config"


def cells(file: Path) -> dict[str, list[tuple[object, ...]]]:
    book = openpyxl.load_workbook(file)
    return {page.title: list(page.iter_rows(values_only=True)) for page in book}


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_export_import_export_is_the_same(plant: Plant, lang: str) -> None:
    shutil.rmtree(plant.config)
    shutil.copytree(SHIPPED, plant.config)
    files = {file.name: file.read_text() for file in (plant.config / "devices").iterdir()}
    first, second = plant.root / "first.xlsx", plant.root / "second.xlsx"
    assert plant.run("export", plant.config, "-o", first, "--lang", lang) == (
        0,
        f"written: {first.name} (3 devices, 50 points)\n",
    )
    code, said = plant.run("import", first, plant.config, "--apply", "--remove")
    assert (code, said.splitlines()[-1]) == (0, "nothing to do: the config says what the table says")
    assert {file.name: file.read_text() for file in (plant.config / "devices").iterdir()} == files
    plant.run("export", plant.config, "-o", second, "--lang", lang)
    assert cells(first) == cells(second)
    assert list(cells(first)) == ["compressor-1", "meter-1", "reactor-3"]


@pytest.mark.parametrize(
    ("device", "url"), [("boiler-1", "tcp://192.168.1.20:502"), ("reactor-3", "opc.tcp://10.0.0.7:4840")]
)
def test_a_device_is_made_anew_from_its_table(plant: Plant, device: str, url: str) -> None:
    first, second = plant.root / "first.csv", plant.root / "second.csv"
    plant.run("export", plant.config, "--device", device, "-o", first)
    (plant.config / "devices" / f"{device}.yaml").unlink()
    code, said = plant.run("import", first, plant.config, "--device", device, "--url", url, "--apply")
    assert code == 0, said
    plant.run("export", plant.config, "--device", device, "-o", second)
    assert first.read_bytes() == second.read_bytes()


def test_csv_is_as_excel_opens_it(plant: Plant) -> None:
    plant.run("export", plant.config, "--device", "1 号锅炉", "-o", plant.root / "t.csv")
    assert (plant.root / "t.csv").read_bytes() == (
        "\ufeff本地名,位号,名称,地址,数据类型,字节序,位,长度,数量,倍率,偏移,单位,量程,读取周期,标识,备注,invalid\r\n"
        "steam_pressure,PI-101,,holding 0,float32,CDAB,,,,,,MPa,,,,,\r\n"
        "steam_temperature,TI-101,,holding 2,int16,,,,,0.1,,℃,,,,,[32767]\r\n"
        "running,XL-101,,discrete 0,bool,,,,,,,,,,,,\r\n"
    ).encode()


def test_a_csv_holds_one_device_and_nothing_is_replaced_unasked(plant: Plant) -> None:
    code, said = plant.run("export", plant.config, "-o", plant.root / "t.csv")
    assert code == 2
    assert "t.csv: a CSV file holds one device; choose one with --device, or write .xlsx" in said
    (plant.root / "t.xlsx").write_text("mine")
    code, said = plant.run("export", plant.config, "-o", plant.root / "t.xlsx")
    assert code == 2
    assert "t.xlsx is there already; --force replaces it" in said


def test_a_tag_that_looks_like_a_formula_is_text(plant: Plant) -> None:
    plant.boiler.write_text(plant.boiler.read_text().replace("tag: PI-101", 'tag: "=PI-101"'))
    plant.run("export", plant.config, "-o", plant.root / "t.xlsx")
    assert openpyxl.load_workbook(plant.root / "t.xlsx")["boiler-1"]["B2"].data_type == "s"
    assert "3 unchanged" in plant.run("import", plant.root / "t.xlsx", plant.config)[1]


def test_keys_of_every_kind_come_back(plant: Plant) -> None:
    plant.boiler.write_text(
        plant.boiler.read_text()
        .replace("unit: MPa", "unit: MPa, range: [-0.1, 1.6], deadband: 1%, max_silence: 1m, governance: {grade: 2}")
        .replace("invalid: [0x7FFF]", "invalid: [0x7FFF]\n    totaliser: {range: 1e4}")
    )
    before = plant.boiler.read_text()
    first, second = plant.root / "first.xlsx", plant.root / "second.xlsx"
    plant.run("export", plant.config, "-o", first)
    assert cells(first)["boiler-1"][0][-5:] == ("deadband", "governance", "invalid", "max_silence", "totaliser")
    code, said = plant.run("import", first, plant.config, "--apply")
    assert (code, plant.boiler.read_text()) == (0, before), said
    plant.boiler.unlink()
    book = openpyxl.load_workbook(first)
    del book["reactor-3"]
    book.save(first)
    code, said = plant.run(
        "import", first, plant.config, "--device", "boiler-1", "--url", "tcp://1.2.3.4:502", "--apply"
    )
    assert code == 0, said
    plant.run("export", plant.config, "-o", second)
    assert cells(second)["boiler-1"] == cells(first)["boiler-1"]


def test_derived_points_are_left_alone(plant: Plant) -> None:
    derived = 'derived:\n  - {point: FI-101, expression: "steam_pressure * 2"}\n'
    plant.boiler.write_text(plant.boiler.read_text().replace("# the end\n", derived))
    table = plant.csv("位号,地址,类型\nFI-101,40021,INT\n")
    code, said = plant.run("import", table, plant.config, "--apply", "--remove")
    assert code == 2  # the expression needs what would be taken out
    code, said = plant.run("import", table, plant.config, "--apply")
    assert code == 0, said
    assert "  + {point: FI-101_2, tag: FI-101, address: modicon 40021, type: int16}\n" in said
    assert plant.boiler.read_text().endswith(derived)
    code, said = plant.run("rename", plant.config, "boiler-1", "PI-101", "pressure", "--apply")
    assert code == 2
    assert "nothing is written: the config would not pass its check\n" in said
