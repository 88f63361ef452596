"""nuScenes: tables, labelled questions, bags, and a generated stand-in."""
