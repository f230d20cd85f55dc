"""The grading policy, rule by rule: docs/grading.md names each of these tests."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tts_eval.answers import Grader, extract_answer
from tts_eval.answers.fast import decide
from tts_eval.answers.keys import compatible
from tts_eval.answers.normalize import clean


DATA = Path(__file__).parents[2].parent / "shared" / "data"
EQUAL, UNEQUAL = True, False


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1) as grader:
        yield grader


# rule: (verdict, gold, answer) ...
RULES: dict[str, list[tuple[bool, str, str]]] = {
    "layout": [
        (EQUAL, r"\frac{1}{2}", r"\dfrac12"),
        (EQUAL, r"\left( 3, \frac{\pi}{2} \right)", r"(3,\tfrac{\pi}{2})"),
        (EQUAL, r"3\sqrt{5}", r"$3 \sqrt 5$."),
        (EQUAL, "x+1", r"\(x + 1\)"),
        (EQUAL, r"\pi", "\u03c0"),
        (EQUAL, "-5", "\u22125"),
        (EQUAL, r"\approx 8.24 \text{ mph}", "8.24"),
        (EQUAL, "8.24", "\u2248 8.24"),
        (EQUAL, "5", "= 5"),
        (UNEQUAL, "12", "1 2"),
    ],
    "percent": [
        (EQUAL, r"50\%", "50"),
        (EQUAL, "50", r"50\%"),
        (EQUAL, r"33.5\%", "33.5"),
        (EQUAL, r"20 \%", "20 percent"),
        (EQUAL, r"7.2\%", r"7.2\text{ percent}"),
        (UNEQUAL, r"50\%", "0.5"),
        (UNEQUAL, "0.5", r"50\%"),
        (UNEQUAL, r"33.5\%", "0.335"),
        (EQUAL, r"x\%", "x"),
    ],
    "units": [
        (EQUAL, r"5 \text{ cm}", "5"),
        (EQUAL, "5", r"5\,\mathrm{cm}^2"),
        (EQUAL, r"90\text{ square" + "\n" + "units}", "90"),
        (EQUAL, r"144 \mbox{ m}^3", "144"),
        (EQUAL, r"\frac{3}{4}\pi\text{ inches}", r"\frac{3\pi}{4}"),
        (EQUAL, "12", "12 square feet"),
        (EQUAL, "12", "12cm"),
        (EQUAL, "9.8", r"9.8 \text{ m}/\text{s}^2"),
        (EQUAL, r"5\text{ cm}", r"5\text{ m}"),
        (UNEQUAL, r"5 \text{ cm}", "6"),
        (UNEQUAL, "3t", "3s"),
        (EQUAL, "12", r"\text{12 cm}"),
        (EQUAL, "12", r"\mathrm{12~square feet}"),
        (EQUAL, r"\frac{5}{2}", r"\frac{5}{2} cups"),
        (EQUAL, "10", "10 kHz"),
        (EQUAL, "2", "2 tbsp"),
        (EQUAL, "5", "x = 5 yds"),
        (UNEQUAL, "2", "2xy"),
        (UNEQUAL, "6", "6 xyz"),
        (UNEQUAL, r"\sqrt{2}", r"\sqrt{2}xyz"),
        (UNEQUAL, r"\frac{1}{2}", r"\frac{1}{2}abd"),
        (UNEQUAL, "2^{n}", "2^{n} bac"),
        (UNEQUAL, "x^{2}", "x^{2}ft"),
        (UNEQUAL, "5", "5 million"),
        (UNEQUAL, "5", r"5\text{ million}"),
    ],
    "degrees": [
        (EQUAL, r"90^\circ", "90"),
        (EQUAL, "90", r"90^{\circ}"),
        (EQUAL, "90", "90\u00b0"),
        (EQUAL, r"69\text{ degrees}", "69"),
        (EQUAL, r"20^\circ\text{C}", "20"),
        (UNEQUAL, r"90^\circ", r"\frac{\pi}{2}"),
    ],
    "currency": [
        (EQUAL, r"\$5", "5"),
        (EQUAL, r"-\$0.50", r"-\$.5"),
        (EQUAL, r"\$18.90", "18.9"),
        (EQUAL, r"1599 \text{ dollars}", r"\$1,599"),
        (UNEQUAL, r"\$5", "500"),
    ],
    "tuples": [
        (EQUAL, "(1,2)", r"\left(1, 2\right)"),
        (UNEQUAL, "(1,2)", "(2,1)"),
        (UNEQUAL, "(1,2,3)", "(1,3,2)"),
        (EQUAL, "(3,4)", "(3.0, 4)"),
        (EQUAL, "(1,2,3)", "[1,2,3]"),
        (EQUAL, "(1,2)", "1,2"),
        (UNEQUAL, "(1,2)", "2,1"),
        (EQUAL, "(1,2)", "x=1, y=2"),
        (EQUAL, "1,2", "(1,2)"),
        (UNEQUAL, "1,2", "(2,1)"),
        (UNEQUAL, "1,2,3", "(3,2,1)"),
        (UNEQUAL, "1,2", "[2,1]"),
        (EQUAL, "(1,1)", "1,1"),
        (EQUAL, r"(\sqrt{2},\sqrt{2})", r"\sqrt2, \sqrt2"),
        (UNEQUAL, "1.5, x", "(x, 1.5)"),
        (UNEQUAL, "x=1, y=2", "(2,1)"),
        (UNEQUAL, "x=1, y=2", "(x,y)=(2,1)"),
        (UNEQUAL, "AB=9, CD=4", "(4,9)"),
    ],
    "intervals": [
        (UNEQUAL, "(1,2]", "[1,2]"),
        (UNEQUAL, "[1,2]", "(1,2)"),
        (UNEQUAL, "[1,2)", "(1,2]"),
        (UNEQUAL, "[1,2]", "1,2"),
        (EQUAL, r"[0,\infty)", r"\left[0, +\infty\right)"),
        (EQUAL, r"(-\infty,0)\cup(0,\infty)", r"(0,\infty)\cup(-\infty,0)"),
        (UNEQUAL, r"(-\infty,0)\cup(0,\infty)", r"(-\infty,\infty)"),
    ],
    "sets": [
        (EQUAL, r"\{1,2\}", r"\{2,1\}"),
        (EQUAL, r"\{4,5,7\}", "7, 5, 4"),
        (UNEQUAL, r"\{1,2\}", "(1,2)"),
        (UNEQUAL, "[1,2]", r"\{1,2\}"),
        (UNEQUAL, r"\{1,2\}", r"\{1,3\}"),
        (UNEQUAL, r"(\frac{1}{2},2)", r"\{\frac12,2\}"),
        (EQUAL, r"\emptyset", r"\{\}"),
        (EQUAL, r"\emptyset", r"\varnothing"),
    ],
    "several_answers": [
        (EQUAL, "1, 2", "2, 1"),
        (UNEQUAL, "1", "1,2"),
        (UNEQUAL, "1,2", "1"),
        (EQUAL, r"12\text{ and }13", "12, 13"),
        (EQUAL, r"2, 3, \text{ and } 4", "4,3,2"),
        (EQUAL, r"-2 \text{ or } -12", "-12 or -2"),
        (EQUAL, "3, -\\frac{1}{3}", r"x = -\frac13, x = 3"),
        (EQUAL, "1,2", "1,2,2"),
    ],
    "plus_minus": [
        (EQUAL, r"\pm 2", "2, -2"),
        (EQUAL, "2,-2", r"x = \pm 2"),
        (EQUAL, r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"),
        (UNEQUAL, r"\pm 2", "2"),
        (EQUAL, r"\frac{1\pm\sqrt{5}}{2}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}"),
        (EQUAL, r"\frac{1\pm\sqrt{5}}{2}", r"x = \frac{2 \mp \sqrt{20}}{4}"),
        (EQUAL, r"2+\sqrt{3}, 2-\sqrt{3}", r"\sqrt{7 \pm 4\sqrt{3}}"),
        (EQUAL, r"(1,2), (-1,2)", r"(\pm 1, 2)"),
        (EQUAL, r"\{1\pm\sqrt{5},-2\}", r"-2, 1+\sqrt{5}, 1-\sqrt{5}"),
        (UNEQUAL, r"x=\pm 2", r"y=\pm 2"),
    ],
    "bases": [
        (EQUAL, "2516_8", "2516"),
        (EQUAL, "2516", "2516_{8}"),
        (EQUAL, "152A_{11}", "152a_{11}"),
        (EQUAL, "4210_{7}", "(4210)_7"),
        (UNEQUAL, "2516_8", "2516_7"),
        (UNEQUAL, "2516_8", "2517_8"),
        (UNEQUAL, "10_2", "2"),
        (UNEQUAL, "0.0011_2", "0.011_2"),
    ],
    "assignments": [
        (EQUAL, "5", "x = 5"),
        (EQUAL, "x=5", "5"),
        (UNEQUAL, "x=5", "x=6"),
        (UNEQUAL, "x=5", "y=5"),
        (EQUAL, "y=2x+3", "2x+3"),
        (EQUAL, "y = 2x+3", "2x - y + 3 = 0"),
        (EQUAL, "f(x)=x^2", "x^2"),
        (EQUAL, "x=5", "2x=10"),
        (EQUAL, r"x=\frac{3}{2}", "2x-3=0"),
        (UNEQUAL, "x=5", "2x=11"),
        (UNEQUAL, "x=5", "2y=10"),
        (UNEQUAL, "x=1", "x^2=x"),
        (EQUAL, "f(2)=5", "2f(2)=10"),
        (UNEQUAL, "f(2)=5", "f(2)=7"),
        (EQUAL, r"24 = 8 \times 3", r"8 \times 3 = 24"),
        (UNEQUAL, "12+30=42", "2+2=4"),
    ],
    "inequalities": [
        (EQUAL, "x>3", "3<x"),
        (EQUAL, "x>3", r"(3,\infty)"),
        (EQUAL, "[3,5]", r"3 \le x \leq 5"),
        (EQUAL, r"[0,1)", r"x \in [0,1)"),
        (UNEQUAL, "x>3", r"x \ge 3"),
        (EQUAL, r"(-\infty,-1)\cup(1,\infty)", r"x<-1 \text{ or } x>1"),
        (EQUAL, r"(-\infty,-1)\cup(1,\infty)", r"(-\infty,-1) \text{ or } (1,\infty)"),
        (EQUAL, r"[1,2]\cup[3,4]", r"1 \le x \le 2 \quad \text{or} \quad 3 \le x \le 4"),
        (EQUAL, "x<-1 or x>1", "1 < x or -1 > x"),
        (UNEQUAL, "x<-1 or x>1", r"x \le -1 or x>1"),
        (UNEQUAL, "x<-1 or x>1", "x<-1 or y>1"),
        (EQUAL, "x<1 or y>2", "y>2 or x<1"),
        (EQUAL, "x<a or x>b", "x>b or x<a"),
        (UNEQUAL, "[3,5]", "3<x<5"),
        (EQUAL, "f(2) < f(1) < f(4)", "f(2)<f(1)<f(4)"),
        (UNEQUAL, "f(2) < f(1) < f(4)", "f(1)<f(2)<f(4)"),
    ],
    "choices": [
        (EQUAL, r"\text{(C)}", "C"),
        (EQUAL, r"\text{A}", "A"),
        (EQUAL, "B", r"\textbf{(b)}"),
        (EQUAL, r"\text{A,D}", "D, A"),
        (UNEQUAL, r"\text{(C)}", "D"),
        (UNEQUAL, r"\text{A,D}", "A"),
    ],
    "words": [
        (EQUAL, r"\text{even}", "even"),
        (EQUAL, r"\text{Even}", r"\text{even}."),
        (UNEQUAL, r"\text{even}", r"\text{odd}"),
        (EQUAL, r"\text{east}", r"\textbf{East}"),
        (EQUAL, r"\text{4:30 p.m.}", r"4:30 \text{ p.m.}"),
        (EQUAL, r"\text{4:30 p.m.}", "4:30 PM"),
        (UNEQUAL, r"4:30\text{ a.m.}", r"4:30\text{ p.m.}"),
        (EQUAL, r"\text{13}", "13"),
        (EQUAL, "xy", "yx"),
        (EQUAL, "LQSX", "XQLS"),
        (UNEQUAL, r"\text{CBAD}", "ABCD"),
        (UNEQUAL, "east", "seat"),
        (UNEQUAL, r"\text{Evelyn}", "Angela"),
    ],
    "mixed_numbers": [
        (EQUAL, r"1\frac{1}{2}", r"\frac{3}{2}"),
        (EQUAL, r"33 \frac{1}{3}", r"\frac{100}{3}"),
        (EQUAL, r"-15\frac{3}{5}", "-15.6"),
        (EQUAL, r"6\frac15", "6 1/5"),
        (UNEQUAL, r"1\frac{1}{2}", r"\frac{1}{2}"),
    ],
    "decimals": [
        (EQUAL, "0.5", r"\frac{1}{2}"),
        (EQUAL, r"\frac12", ".5"),
        (EQUAL, "3", "3.000"),
        (UNEQUAL, r"\frac13", "0.33"),
        (EQUAL, r"\frac13", "0.333333"),
        (EQUAL, r"\sqrt{2}", "1.414214"),
        (UNEQUAL, r"\sqrt{2}", "1.41"),
        (UNEQUAL, r"10\pi", "31.4"),
        (EQUAL, r"\frac{4}{6}", "2/3"),
    ],
    "thousands": [
        (EQUAL, "1,234", "1234"),
        (EQUAL, r"3,\!110,\!400", "3110400"),
        (EQUAL, "1{,}234", "1 234".replace(" ", ",")),
        (EQUAL, r"\$16,\!386.16", "16386.16"),
        (EQUAL, r"\frac{12}{5,\!525}", r"\frac{12}{5525}"),
        (UNEQUAL, "(1,234)", "1234"),
        (UNEQUAL, "1, 234", "1234"),
        (UNEQUAL, "12,34", "1234"),
    ],
    "scientific_notation": [
        (EQUAL, r"1.2 \times 10^3", "1200"),
        (EQUAL, "1200", r"1.2 \cdot 10^{3}"),
        (EQUAL, "0.00012", r"1.2\times10^{-4}"),
        (EQUAL, "1.2e3", "1200"),
        (UNEQUAL, r"1.2 \times 10^3", r"1.2 \times 10^4"),
    ],
    "matrices": [
        (EQUAL, r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
        (EQUAL, r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 0.5 \\[6pt] \frac{4}{2} \end{pmatrix}"),
        (UNEQUAL, r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
        (UNEQUAL, r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
        (UNEQUAL, r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1,2)"),
    ],
    "ratios": [(EQUAL, "3:1", "3 : 1"), (EQUAL, "3:1", "3"), (UNEQUAL, "3:1", "1:3")],
    "complex": [
        (EQUAL, "6+9i", "9i+6"),
        (EQUAL, "2i", "(1+i)^2"),
        (EQUAL, "-i", r"\frac{1}{i}"),
        (UNEQUAL, "i", "-i"),
    ],
    "algebra": [
        (EQUAL, "x^2+2x+1", "(x+1)^2"),
        (EQUAL, r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
        (EQUAL, r"\sqrt[3]{2}", "2^{1/3}"),
        (UNEQUAL, "p - q", "q - p"),
        (EQUAL, r"\binom{5}{2}", "10"),
        (EQUAL, r"\log_2 8", "3"),
    ],
    "nothing": [(UNEQUAL, "5", ""), (UNEQUAL, "", ""), (UNEQUAL, "5", r"\$"), (UNEQUAL, r"\text{ }", "5")],
    "undecided": [(UNEQUAL, "x", "y" * 1001), (UNEQUAL, "5", r"\frac{"), (UNEQUAL, "x^2", "}{")],
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, grader: Grader) -> None:
    cases = RULES[rule]
    verdicts = grader.grade([(gold, answer) for _, gold, answer in cases])
    assert [(verdict, *case[1:]) for verdict, case in zip(verdicts, cases, strict=True)] == cases


PAIRS = [(rule, *pair) for rule, cases in RULES.items() for _, *pair in cases if clean(pair[0]) != clean(pair[1])]


@pytest.mark.parametrize("rule", sorted({rule for rule, *_ in PAIRS}))
def test_group_agrees_with_grade(rule: str, grader: Grader) -> None:
    """What is equal both ways is one class, what is unequal both ways is two; keys never rule out an equal pair."""
    for gold, answer in [pair for name, *pair in PAIRS if name == rule]:
        verdicts = grader.grade([(gold, answer), (answer, gold)])
        first, second = grader.group([gold, answer])
        if verdicts[0] == verdicts[1]:
            assert (first == second) is verdicts[0], (gold, answer)
        if any(verdicts) and decide(clean(gold), clean(answer)) is None:
            keys = [grader._submit_key(clean(text)).result() for text in (gold, answer)]
            assert None in keys or compatible(*[key for key in keys if key is not None]), (gold, answer, keys)


def test_group_keeps_tuples_apart_beside_a_bare_list(grader: Grader) -> None:
    """The list is shorter than the tuples, so it represents their class."""
    assert grader.group(["(5,3)", "(3,5)", "3,5"]) == [0, 1, 1]
    assert grader.group(["(5,3)", "(3,5)", "x=3,y=5", "3,5"]) == [0, 1, 1, 1]


def test_keys_leave_the_classes_as_they_were(monkeypatch: pytest.MonkeyPatch, grader: Grader) -> None:
    """Without keys, sympy compares each answer with all classes."""
    cases = [case for cases in RULES.values() for case in cases]
    texts = [text for _, *pair in random.Random(3).sample(cases, 24) for text in pair]
    classes = grader.group(texts)
    monkeypatch.setattr("tts_eval.answers.grader.compatible", lambda *_: True)
    assert grader.group(texts) == classes


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the shared data at {DATA}")
def test_golds_equal_themselves(grader: Grader) -> None:
    math = [json.loads(line)["answer"] for line in (DATA / "math" / "math500_test.jsonl").read_text().splitlines()]
    gsm8k = [json.loads(line)["answer"] for line in (DATA / "gsm8k" / "test.jsonl").read_text().splitlines()]
    golds = math + [str(extract_answer(text)) for text in gsm8k]
    assert len(golds) == 500 + 1319
    assert all(grader.grade([(gold, gold) for gold in golds]))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the shared data at {DATA}")
def test_golds_equal_their_other_spellings(grader: Grader) -> None:
    """sympy, too, reads the golds right: no string comparison can decide these."""
    math = [json.loads(line)["answer"] for line in (DATA / "math" / "math500_test.jsonl").read_text().splitlines()]
    not_a_term = ("text", ",", "=", "_", "<", ">", "\\in", "matrix", "\\pm", "%", "circ", "$", "mbox")
    terms = sorted({answer for answer in math if not any(mark in answer for mark in not_a_term)})
    pairs = [(gold, rf"0 + \left({gold}\right)") for gold in terms[:100]]
    wrong = [pair for pair, verdict in zip(pairs, grader.grade(pairs), strict=True) if not verdict]
    assert len(pairs) == 100
    assert wrong == []
