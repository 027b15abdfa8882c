"""What engineers write for a unit, and what it is.

Each line: quantity, UCUM code (ucum.org, case sensitive), common code of UN/ECE Recommendation 20 ("-" = it has none,
or a deprecated one), factor to the quantity's first unit as an exact fraction (and offset), spellings. In a quantity
all units convert into each other; units that look alike and must not (gauge and absolute pressure, normal and actual
cubic metres, active and reactive power) are quantities of their own. Factors: the SI Brochure (9th edition) and the
definitions in UCUM; kgf, mmH2O and mmHg are the conventional ones (g = 9.80665 m/s2, 13.5951 g/cm3); cal is that of
the International Table (4.1868 J).
"""

from __future__ import annotations

import difflib
import unicodedata
from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple


class Unit(NamedTuple):
    """A unit: `value in the quantity's first unit = value x factor + offset`."""

    quantity: str
    ucum: str
    rec20: str | None
    """common code of UN/ECE Recommendation 20"""
    factor: Fraction
    offset: Fraction


_TABLE: Final = """
temperature | Cel | CEL | 1 | ℃ degC 摄氏度 摄氏
temperature | K | KEL | 1 -273.15 | K 开 开尔文
temperature | [degF] | FAH | 5/9 -160/9 | ℉ degF 华氏度
pressure | Pa | PAL | 1 | Pa 帕
pressure | hPa | A97 | 100 | hPa 百帕
pressure | kPa | KPA | 1000 | kPa Kpa KPa 千帕
pressure | MPa | MPA | 1000000 | MPa Mpa 兆帕
pressure | bar | BAR | 100000 | bar 巴
pressure | mbar | MBR | 100 | mbar 毫巴
pressure | [psi] | PS | 8896443230521/1290320000 | psi PSI
pressure | atm | ATM | 101325 | atm 标准大气压
pressure | kgf/cm2 | E42 | 98066.5 | kgf/cm² kgf/cm2 kg/cm² kg/cm2 公斤力/平方厘米
pressure | mm[H2O] | - | 9.80665 | mmH₂O mmH2O 毫米水柱
pressure | m[H2O] | N23 | 9806.65 | mH₂O mH2O 米水柱
pressure | mm[Hg] | - | 133.322387415 | mmHg 毫米汞柱 Torr
gauge pressure | Pa | PAL | 1 | Pa(G) PaG Pa(表压)
gauge pressure | kPa | KPA | 1000 | kPa(G) kPaG kPa(g) kPag kPa(表压)
gauge pressure | MPa | MPA | 1000000 | MPa(G) MPaG MPa(g) MPag MPa(表压)
gauge pressure | bar | BAR | 100000 | bar(G) barG bar(g) barg
gauge pressure | [psi] | PS | 8896443230521/1290320000 | psig psi(g) psi(G)
absolute pressure | Pa | PAL | 1 | Pa(A) PaA Pa(绝压)
absolute pressure | kPa | KPA | 1000 | kPa(A) kPaA kPa(a) kPaa kPa(绝压)
absolute pressure | MPa | MPA | 1000000 | MPa(A) MPaA MPa(a) MPaa MPa(绝压)
absolute pressure | bar | BAR | 100000 | bar(A) barA bar(a) bara
absolute pressure | [psi] | PS | 8896443230521/1290320000 | psia psi(a) psi(A)
volume flow | m3/h | MQH | 1 | m³/h m3/h 立方米/小时 立方米/时 方/时
volume flow | m3/min | G53 | 60 | m³/min m3/min 立方米/分
volume flow | m3/s | MQS | 3600 | m³/s m3/s 立方米/秒
volume flow | m3/d | G52 | 1/24 | m³/d m3/d 立方米/天
volume flow | L/h | E32 | 0.001 | L/h l/h 升/小时 升/时
volume flow | L/min | L2 | 0.06 | L/min l/min LPM 升/分
volume flow | L/s | G51 | 3.6 | L/s l/s 升/秒
normal volume flow | m3/h | Q40 | 1 | Nm³/h Nm3/h Nm³/hr 标立方米/小时 标方/时
normal volume flow | m3/min | - | 60 | Nm³/min Nm3/min 标方/分
normal volume flow | m3/d | Q39 | 1/24 | Nm³/d Nm3/d 标方/天
normal volume flow | L/min | - | 0.06 | NL/min
mass flow | t/h | E18 | 1 | t/h T/h 吨/小时 吨/时
mass flow | t/d | L71 | 1/24 | t/d 吨/天
mass flow | kg/h | E93 | 0.001 | kg/h 千克/小时 公斤/小时 公斤/时
mass flow | kg/min | F31 | 0.06 | kg/min
mass flow | kg/s | KGS | 3.6 | kg/s 千克/秒
volume | m3 | MTQ | 1 | m³ m3 立方米 方
volume | L | LTR | 0.001 | L l 升
volume | mL | MLT | 0.000001 | mL ml 毫升
normal volume | m3 | NM3 | 1 | Nm³ Nm3 标立方米 标方
mass | kg | KGM | 1 | kg 千克 公斤
mass | g | GRM | 0.001 | g 克
mass | mg | MGM | 0.000001 | mg 毫克
mass | t | TNE | 1000 | t 吨
energy | kW.h | KWH | 1 | kWh kW·h 度 千瓦时
energy | W.h | WHR | 0.001 | Wh W·h 瓦时
energy | MW.h | MWH | 1000 | MWh MW·h 兆瓦时
energy | GW.h | GWH | 1000000 | GWh
energy | J | JOU | 1/3600000 | J 焦耳 焦
energy | kJ | KJO | 1/3600 | kJ 千焦
energy | MJ | 3B | 5/18 | MJ 兆焦
energy | GJ | GV | 2500/9 | GJ 吉焦
energy | kcal_IT | E14 | 1.163e-3 | kcal 千卡 大卡
reactive energy | kV.A.h{reactive} | K3 | 1 | kvarh kVarh kvar·h 千乏时
apparent energy | kV.A.h | C79 | 1 | kVAh
power | kW | KWT | 1 | kW KW 千瓦
power | W | WTT | 0.001 | W 瓦
power | MW | MAW | 1000 | MW 兆瓦
power | GW | A90 | 1000000 | GW
power | [HP] | BHP | 0.74569987158227022 | hp HP
reactive power | kV.A{reactive} | KVR | 1 | kvar kVar kVAr kVAR 千乏
reactive power | V.A{reactive} | D44 | 0.001 | var Var VAr 乏
reactive power | MV.A{reactive} | MAR | 1000 | Mvar MVar MVAr 兆乏
apparent power | kV.A | KVA | 1 | kVA 千伏安
apparent power | V.A | D46 | 0.001 | VA V·A 伏安
apparent power | MV.A | MVA | 1000 | MVA 兆伏安
voltage | V | VLT | 1 | V 伏 伏特
voltage | mV | 2Z | 0.001 | mV 毫伏
voltage | kV | KVT | 1000 | kV KV 千伏
current | A | AMP | 1 | A 安 安培
current | mA | 4K | 0.001 | mA 毫安
current | uA | B84 | 0.000001 | µA μA uA 微安
current | kA | B22 | 1000 | kA 千安
resistance | Ohm | OHM | 1 | Ω Ohm ohm 欧 欧姆
resistance | mOhm | E45 | 0.001 | mΩ
resistance | kOhm | B49 | 1000 | kΩ 千欧
resistance | MOhm | B75 | 1000000 | MΩ 兆欧
frequency | Hz | HTZ | 1 | Hz HZ 赫兹 赫
frequency | kHz | KHZ | 1000 | kHz 千赫
frequency | MHz | MHZ | 1000000 | MHz
rotation | {rev}/min | RPM | 1 | rpm RPM r/min 转/分 转/分钟 rev/min
rotation | {rev}/s | RPS | 60 | rps r/s 转/秒
length | m | MTR | 1 | m 米
length | km | KMT | 1000 | km 千米 公里
length | cm | CMT | 0.01 | cm 厘米
length | mm | MMT | 0.001 | mm 毫米
length | um | 4H | 0.000001 | µm μm um 微米
length | [in_i] | INH | 0.0254 | in inch 英寸
length | [ft_i] | FOT | 0.3048 | ft 英尺
speed | m/s | MTS | 1 | m/s 米/秒
speed | mm/s | C16 | 0.001 | mm/s 毫米/秒
speed | m/min | 2X | 1/60 | m/min 米/分
speed | km/h | KMH | 5/18 | km/h 公里/小时
acceleration | m/s2 | MSK | 1 | m/s² m/s2 米/秒²
acceleration | [g] | K40 | 9.80665 | gn
area | m2 | MTK | 1 | m² m2 平方米
area | cm2 | CMK | 0.0001 | cm² cm2 平方厘米
area | mm2 | MMK | 0.000001 | mm² mm2 平方毫米
force | N | NEW | 1 | N 牛 牛顿
force | kN | B47 | 1000 | kN 千牛
torque | N.m | NU | 1 | N·m N.m Nm 牛米 牛·米
torque | kN.m | B48 | 1000 | kN·m kN.m kNm
time | s | SEC | 1 | s 秒 sec
time | ms | C26 | 0.001 | ms 毫秒
time | min | MIN | 60 | min 分 分钟
time | h | HUR | 3600 | h 小时 时 hr
time | d | DAY | 86400 | d 天 日
ratio | % | P1 | 0.01 | % ％ 百分比 pct
ratio | [ppth] | NX | 0.001 | ‰
ratio | [ppm] | 59 | 0.000001 | ppm PPM
ratio | [ppb] | 61 | 1e-9 | ppb PPB
ratio | 1 | C62 | 1 | 1
relative humidity | %{RH} | P1 | 1 | %RH RH%
volume fraction | %{vol} | P1 | 1 | %vol %VOL vol%
lower explosive limit | %{LEL} | P1 | 1 | %LEL LEL%
acidity | [pH] | Q30 | 1 | pH PH
conductivity | S/m | D10 | 1 | S/m
conductivity | mS/cm | H61 | 0.1 | mS/cm
conductivity | uS/cm | G42 | 0.0001 | µS/cm μS/cm uS/cm us/cm
density | kg/m3 | KMQ | 1 | kg/m³ kg/m3 千克/立方米
density | g/cm3 | 23 | 1000 | g/cm³ g/cm3 克/立方厘米
density | t/m3 | D41 | 1000 | t/m³ t/m3
density | g/L | GL | 1 | g/L g/l
density | mg/L | M1 | 0.001 | mg/L mg/l 毫克/升
density | mg/m3 | GP | 0.000001 | mg/m³ mg/m3 毫克/立方米
density | ug/m3 | GQ | 1e-9 | µg/m³ μg/m³ ug/m3 微克/立方米
normal density | mg/m3 | - | 1 | mg/Nm³ mg/Nm3 毫克/标立方米
dynamic viscosity | mPa.s | C24 | 1 | mPa·s mPa.s cP cp 厘泊
dynamic viscosity | Pa.s | C65 | 1000 | Pa·s Pa.s
kinematic viscosity | mm2/s | C17 | 1 | mm²/s mm2/s cSt 厘斯
angle | deg | DD | 1 | ° deg
illuminance | lx | LUX | 1 | lx Lx lux 勒克斯
sound level | dB | 2N | 1 | dB 分贝
sound level A | dB{A} | - | 1 | dB(A) dBA
irradiance | W/m2 | D54 | 1 | W/m² W/m2 瓦/平方米
specific energy | kJ/kg | B42 | 1 | kJ/kg 千焦/千克
specific energy | kcal_IT/kg | - | 4.1868 | kcal/kg 大卡/公斤
heat flow | MJ/h | - | 1 | MJ/h
heat flow | GJ/h | - | 1000 | GJ/h 吉焦/小时
heat flow | kcal_IT/h | - | 0.0041868 | kcal/h 大卡/小时
turbidity | {NTU} | NTU | 1 | NTU
pieces | {pcs} | H87 | 1 | pcs 个 件 台 只
strokes | {strokes}/min | - | 1 | spm 次/分 次/min
counts | {count} | - | 1 | 次 cnt
"""


@cache
def _spellings() -> dict[str, Unit]:
    """All spellings in their plain form; made when the first unit is asked for."""
    found: dict[str, Unit] = {}
    for line in _TABLE.strip().splitlines():
        quantity, ucum, rec20, factor, spellings = (part.strip() for part in line.split("|"))
        numbers = [Fraction(number) for number in factor.split()]
        offset = numbers[1] if len(numbers) > 1 else Fraction(0)
        unit = Unit(quantity, ucum, None if rec20 == "-" else rec20, numbers[0], offset)
        for spelling in spellings.split():
            found.setdefault(_plain(spelling), unit)
    return found


def find(text: str) -> Unit | None:
    """The unit that is written so; None for one that is not in the table. Spaces, full width, and the three ways to
    write micro, squared and cubed make no difference; capitals do: mW is not MW.
    """
    return _spellings().get(_plain(text))


def all_spellings() -> tuple[str, ...]:
    """Every spelling as it stands in the table."""
    return tuple(text for line in _TABLE.strip().splitlines() for text in line.rpartition("|")[2].split())


def nearest_spelling(text: str) -> str | None:
    """What was perhaps meant."""
    near = difflib.get_close_matches(_plain(text), _spellings(), 1, 0.6)
    return near[0] if near else None


def _plain(text: str) -> str:
    """NFKC makes ℃ °C, ³ 3, µ μ, Ω Ω and full-width signs plain."""
    return unicodedata.normalize("NFKC", text).replace(" ", "").replace("•", "·").replace("⋅", "·")
