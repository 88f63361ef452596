"""rosbag2 bags without ROS: files of all formats are read, played with their timing, and written."""
