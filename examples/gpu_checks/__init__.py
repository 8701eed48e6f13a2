"""The parts of ``gpu_check.py``, and what runs them: a supervisor, and a worker for the device."""
