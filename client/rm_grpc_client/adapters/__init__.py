"""Trainers' own interfaces to rewards, one module each; a trainer's package is imported only when its module is used.

All of them map a conversation that cannot be scored to the trainer's own way of saying so, and never to a number.
"""
