"""Making a student: losses, the teacher signal, training."""
