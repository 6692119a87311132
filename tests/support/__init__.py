"""What several rooms of tests share. Modules import what they need, and nothing from the rooms."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
