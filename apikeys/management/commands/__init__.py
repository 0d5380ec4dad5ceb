"""Commands: parse, call one verb, print one sentence."""
