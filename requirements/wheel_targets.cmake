# The ros-* wheels export include directories of the machine they were built on (/opt/python/...),
# which CMake refuses because they do not exist. Does nothing on a ROS distribution.
get_property(_imported DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(_target IN LISTS _imported)
  get_target_property(_include ${_target} INTERFACE_INCLUDE_DIRECTORIES)
  if(_include MATCHES "/opt/python/")
    list(FILTER _include EXCLUDE REGEX "^/opt/python/")
    set_target_properties(${_target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_include}")
  endif()
endforeach()
