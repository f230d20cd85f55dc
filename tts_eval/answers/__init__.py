"""Final answers: finding them in solutions, grading them, sorting them into classes of equal ones."""

from tts_eval.answers.extract import FALLBACKS, FIND_ANSWERS, extract_answer
from tts_eval.answers.grader import Grader, GradingCounts, default_grader


__all__ = ["FALLBACKS", "FIND_ANSWERS", "Grader", "GradingCounts", "default_grader", "extract_answer"]
