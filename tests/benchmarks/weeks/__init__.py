"""Months of weekly batches from real data, attacked or not: does a lie ever become the champion?"""
