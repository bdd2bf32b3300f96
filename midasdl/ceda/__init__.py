"""Talking to CEDA: who we are, the token, one GET for a file, and what each answer means.

Retries, pauses and limits belong to others; this room makes single requests and judges them.
"""
