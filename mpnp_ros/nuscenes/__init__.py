"""nuScenes: tables, questions with true answers, bags, and a generated stand-in."""
