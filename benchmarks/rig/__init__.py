"""The processes of a run: started on their core, asked, measured, ended."""
