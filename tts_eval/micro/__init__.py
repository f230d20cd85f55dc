"""microMATH: a family of tiny models and their problems, trained by the project itself and shipped with it.

`tts_eval.micro.problems` generates the problems, `tts_eval.micro.members` names the models,
`tts_eval.micro.pretrain` trains the policies. `make micro` rebuilds the whole family; docs/micromath.md says what was
tried on the way.
"""
