"""Which topics are sensors, on the graphs of drivers as they come."""
from __future__ import annotations

import pytest

from mpnp_ros.nodes.discovery import (
    CAMERA_INFO,
    CLOUD,
    COMPRESSED,
    IMAGE,
    IMU,
    Topic,
    equals,
    find_cameras,
    find_clouds,
    find_imus,
    find_lidars,
    info_topic,
    sensor_name,
    similar,
)

INFO = CAMERA_INFO
OTHER = 'sensor_msgs/msg/LaserScan'


def graph(**names):
    """Make topics of types from names with spaces between them."""
    types = {'raw': IMAGE, 'jpeg': COMPRESSED, 'info': INFO, 'cloud': CLOUD, 'other': OTHER}
    return [Topic(name, types[kind]) for kind, listed in names.items() for name in listed.split()]


def transported(*bases):
    """What image_transport publishes for each base topic."""
    return [topic for base in bases for topic in (
        Topic(base, IMAGE), Topic(f'{base}/compressed', COMPRESSED),
        Topic(f'{base}/compressedDepth', COMPRESSED),
        Topic(f'{base}/theora', 'theora_image_transport/msg/Packet'))]


REALSENSE = [*transported('/camera/camera/color/image_raw', '/camera/camera/depth/image_rect_raw',
                          '/camera/camera/aligned_depth_to_color/image_raw',
                          '/camera/camera/infra1/image_rect_raw', '/camera/camera/infra2/image_rect_raw'),
             *graph(info='/camera/camera/color/camera_info /camera/camera/depth/camera_info '
                         '/camera/camera/infra1/camera_info',
                    cloud='/camera/camera/depth/color/points')]
ZED = [*transported(*(f'/zed/zed_node/{eye}/image_rect_{shade}' for eye in ('rgb', 'left', 'right')
                      for shade in ('color', 'gray')),
                    '/zed/zed_node/rgb_raw/image_raw_color', '/zed/zed_node/left_raw/image_raw_color',
                    '/zed/zed_node/stereo/image_rect_color', '/zed/zed_node/stereo_raw/image_raw_color',
                    '/zed/zed_node/depth/depth_registered', '/zed/zed_node/confidence/confidence_map'),
       *graph(info='/zed/zed_node/rgb/camera_info /zed/zed_node/left/camera_info',
              raw='/zed/zed_node/disparity/disparity_image',
              cloud='/zed/zed_node/point_cloud/cloud_registered')]
DEPTHAI = [*transported('/oak/rgb/image_raw', '/oak/rgb/image_rect', '/oak/left/image_raw',
                        '/oak/right/image_raw', '/oak/stereo/image_raw', '/oak/nn/passthrough/image_raw'),
           *graph(info='/oak/rgb/camera_info /oak/left/camera_info /oak/stereo/camera_info',
                  cloud='/oak/points')]
NUSCENES = ('cam_front', 'cam_front_left', 'cam_front_right', 'cam_back', 'cam_back_left', 'cam_back_right')
RADARS = ('radar_front', 'radar_front_left', 'radar_front_right', 'radar_back_left', 'radar_back_right')
BAG = [*graph(jpeg=' '.join(f'/{name}/image_rect/compressed' for name in NUSCENES),
              info=' '.join(f'/{name}/camera_info' for name in NUSCENES),
              cloud=' '.join(('/lidar_top', *(f'/{name}' for name in RADARS)))),
       Topic('/markers/annotations', 'visualization_msgs/msg/MarkerArray')]
CARLA = graph(raw='/carla/ego_vehicle/rgb_front/image /carla/ego_vehicle/depth_front/image '
                  '/carla/ego_vehicle/semantic_segmentation_front/image /carla/ego_vehicle/dvs_front/image '
                  '/carla/ego_vehicle/rgb_view/image',
              info='/carla/ego_vehicle/rgb_front/camera_info /carla/ego_vehicle/rgb_view/camera_info',
              cloud='/carla/ego_vehicle/lidar /carla/ego_vehicle/semantic_lidar '
                    '/carla/ego_vehicle/radar_front')


@pytest.mark.parametrize(('topics', 'expected'), [
    pytest.param(transported('/image_raw') + graph(info='/camera_info'),
                 [('camera', '/image_raw/compressed', '/camera_info')], id='usb_cam'),
    pytest.param(graph(raw='/image_raw', info='/camera_info'),
                 [('camera', '/image_raw', '/camera_info')], id='v4l2_camera'),
    pytest.param(graph(raw='/camera/image_raw', info='/camera/camera_info'),
                 [('camera', '/camera/image_raw', '/camera/camera_info')], id='gscam'),
    pytest.param(graph(raw='/usb_cam/image_raw /usb_cam/image_mono /usb_cam/image_color',
                       info='/usb_cam/camera_info'),
                 [('usb_cam', '/usb_cam/image_raw', '/usb_cam/camera_info')], id='image_proc'),
    pytest.param(transported('/front/image_raw', '/front/image_rect') + transported('/rear/image_raw'),
                 [('front', '/front/image_rect/compressed', '/front/camera_info'),
                  ('rear', '/rear/image_raw/compressed', '/rear/camera_info')], id='two-cameras'),
    pytest.param(REALSENSE, [('camera', '/camera/camera/color/image_raw/compressed',
                              '/camera/camera/color/camera_info')], id='realsense'),
    pytest.param(ZED, [('zed', '/zed/zed_node/rgb/image_rect_color/compressed',
                        '/zed/zed_node/rgb/camera_info')], id='zed'),
    pytest.param([*transported('/zed/zed_node/rgb/color/rect/image', '/zed/zed_node/left/color/rect/image',
                               '/zed/zed_node/right/color/rect/image', '/zed/zed_node/left/gray/rect/image'),
                  *graph(info='/zed/zed_node/rgb/color/rect/camera_info')],
                 [('zed', '/zed/zed_node/rgb/color/rect/image/compressed',
                   '/zed/zed_node/rgb/color/rect/camera_info')], id='zed-5'),
    pytest.param(DEPTHAI, [('oak', '/oak/rgb/image_rect/compressed', '/oak/rgb/camera_info')], id='depthai'),
    pytest.param(graph(raw='/stereo/left/image_raw /stereo/right/image_raw', cloud='/stereo/points2'),
                 [('left', '/stereo/left/image_raw', '/stereo/left/camera_info')], id='stereo'),
    pytest.param(graph(raw='/left/image_raw /right/image_raw /front/image_raw'),
                 [('front', '/front/image_raw', '/front/camera_info'),
                  ('left', '/left/image_raw', '/left/camera_info'),
                  ('right', '/right/image_raw', '/right/camera_info')], id='around'),
    pytest.param(graph(raw='/camera', info='/camera_info', cloud='/lidar/points'),
                 [('camera', '/camera', '/camera_info')], id='gazebo-bridge'),
    pytest.param(graph(raw='/world/w/model/robot/link/base/sensor/front_camera/image '
                           '/world/w/model/robot/link/base/sensor/depth_camera/depth_image',
                       info='/world/w/model/robot/link/base/sensor/front_camera/camera_info'),
                 [('front', '/world/w/model/robot/link/base/sensor/front_camera/image',
                   '/world/w/model/robot/link/base/sensor/front_camera/camera_info')], id='gazebo-long'),
    pytest.param(BAG, sorted((name, f'/{name}/image_rect/compressed', f'/{name}/camera_info')
                             for name in NUSCENES), id='nuscenes'),
    pytest.param(graph(jpeg='/CAM_FRONT/image_rect_compressed', info='/CAM_FRONT/camera_info'),
                 [('CAM_FRONT', '/CAM_FRONT/image_rect_compressed', '/CAM_FRONT/camera_info')],
                 id='nuscenes2mcap'),
    pytest.param(CARLA, [('front', '/carla/ego_vehicle/rgb_front/image',
                          '/carla/ego_vehicle/rgb_front/camera_info'),
                         ('rgb_view', '/carla/ego_vehicle/rgb_view/image',
                          '/carla/ego_vehicle/rgb_view/camera_info')], id='carla'),
    pytest.param(graph(raw='/ouster/range_image /ouster/reflec_image /ouster/signal_image '
                           '/ouster/nearir_image',
                       cloud='/ouster/points'), [], id='ouster'),
    pytest.param(graph(raw='/yolo/dbg_image /detections/image_annotated /segmentation/mask/image '
                           '/front/image_overlay /thermal/image_raw'), [], id='derived'),
    pytest.param(transported('/d435_front/color/image_raw', '/d435_rear/color/image_raw',
                             '/d435_rear/depth/image_rect_raw'),
                 [('d435_front', '/d435_front/color/image_raw/compressed', '/d435_front/color/camera_info'),
                  ('d435_rear', '/d435_rear/color/image_raw/compressed', '/d435_rear/color/camera_info')],
                 id='two-realsenses'),
])
def test_cameras(topics, expected):
    for order in topics, topics[::-1]:
        assert [(camera.name, camera.topic, camera.info) for camera in find_cameras(order)] == expected


def test_the_transport_is_that_of_the_type_and_names_stay_unique():
    found = find_cameras(graph(raw='/a/camera/image_raw', jpeg='/b/camera/image_raw/compressed'))
    assert [(camera.name, camera.transport) for camera in found] == [
        ('a_camera', 'raw'), ('b_camera', 'compressed')]
    named = {'/b/camera/image_raw/compressed': 'camera'}
    later = find_cameras(graph(raw='/a/camera/image_raw', jpeg='/b/camera/image_raw/compressed'), named=named)
    assert [camera.name for camera in later] == ['a_camera', 'camera']


def test_only_what_is_below_the_namespace_is_a_robots_own():
    topics = graph(raw='/robot1/camera/image_raw /robot2/camera/image_raw /robot10/front/image_raw',
                   cloud='/robot1/velodyne_points /robot2/velodyne_points')
    assert [(camera.name, camera.topic) for camera in find_cameras(topics, '/robot1')] == [
        ('camera', '/robot1/camera/image_raw')]
    assert [cloud.topic for cloud in find_lidars(topics, '/robot2')] == ['/robot2/velodyne_points']
    assert find_cameras(topics, '/robot3') == []


@pytest.mark.parametrize(('clouds', 'expected'), [
    ('/velodyne_points', '/velodyne_points'),
    ('/ouster/points', '/ouster/points'),
    ('/os_cloud_node/points /os_cloud_node/points2', '/os_cloud_node/points'),
    ('/livox/lidar', '/livox/lidar'),
    ('/livox/lidar_192_168_1_12 /livox/lidar_192_168_1_100', '/livox/lidar_192_168_1_100'),
    ('/hesai/pandar', '/hesai/pandar'),
    ('/lidar_points', '/lidar_points'),
    ('/rslidar_points', '/rslidar_points'),
    ('/scan/points', '/scan/points'),
    ('/points_raw', '/points_raw'),
    ('/sick_multiscan/cloud', '/sick_multiscan/cloud'),
    ('/unilidar/cloud', '/unilidar/cloud'),
    ('/carla/ego_vehicle/lidar /carla/ego_vehicle/semantic_lidar /carla/ego_vehicle/radar_front',
     '/carla/ego_vehicle/lidar'),
    ('/points_filtered /points_ground /velodyne_points /cluster/points', '/velodyne_points'),
    ('/camera/depth/color/points /rslidar_points /obstacles /global_map /costmap', '/rslidar_points'),
    ('/lidar/points_filtered', '/lidar/points_filtered'),
    (' '.join(('/lidar_top', *(f'/{name}' for name in RADARS))), '/lidar_top'),
])
def test_the_lidar(clouds, expected):
    assert find_lidars(graph(cloud=clouds))[0].topic == expected


@pytest.mark.parametrize('clouds', ['/camera/camera/depth/color/points',
                                    '/zed/zed_node/point_cloud/cloud_registered',
                                    '/oak/points', '/stereo/points2', '/radar_front', ''])
def test_clouds_of_other_sensors_are_no_lidar(clouds):
    assert find_lidars(graph(cloud=clouds, other='/scan')) == []


def test_lidars_that_are_equally_likely_are_named():
    found = find_lidars(graph(cloud='/rear/velodyne_points /front/velodyne_points /velodyne_points_filtered'))
    assert [cloud.topic for cloud in found[:2]] == ['/front/velodyne_points', '/rear/velodyne_points']
    assert [cloud.topic for cloud in equals(found)] == ['/rear/velodyne_points']


def test_radars():
    assert [(radar.name, radar.topic) for radar in find_clouds('radar', BAG)] == sorted(
        (name, f'/{name}') for name in RADARS)
    assert [(radar.name, radar.topic) for radar in find_clouds('radar', graph(
        cloud='/radar/front/points /radar/front/tracks /velodyne_points'))] == [
            ('front', '/radar/front/points')]


@pytest.mark.parametrize(('topics', 'expected'), [
    ('/imu', ['/imu']),
    ('/imu/data_raw /imu/data', ['/imu/data', '/imu/data_raw']),
    ('/camera/imu /ouster/imu /vectornav/imu/data', ['/vectornav/imu/data', '/camera/imu', '/ouster/imu']),
    ('', [])])
def test_imus(topics, expected):
    """Its own before that of a camera or LiDAR; filtered before raw."""
    inside = [Topic(name, IMU) for name in topics.split()]
    assert [imu.topic for imu in find_imus([*BAG, *inside])] == expected
    assert find_imus([*inside, *graph(raw='/imu/image_raw')], '/robot') == []
    named = [imu.name for imu in find_imus(inside)]
    assert len(set(named)) == len(named) and (named[:1] in ([], ['imu']) or 'vectornav' in topics)


@pytest.mark.parametrize(('topic', 'name'), [
    ('/front/image_raw', 'front'), ('/cam_front/image_rect/compressed', 'cam_front'),
    ('/image_raw', 'camera'), ('/camera/color/image_raw', 'camera'), ('/front/camera/image_raw', 'front'),
    ('/camera_front/image', 'camera_front'),
    ('/front_camera/image_raw', 'front'), ('/camera/front/image_raw', 'front')])
def test_names(topic, name):
    assert sensor_name(topic) == name


def test_the_calibration_is_beside_the_images():
    assert info_topic('{camera}/image_rect/compressed') == '{camera}/camera_info'
    assert info_topic('/image_raw') == '/camera_info'
    assert info_topic('/zed/left/color/image', {'/zed/left/camera_info'}) == '/zed/left/camera_info'


def test_similar_topics_come_first():
    assert similar('/cam_front/image_rect', ['/scan', '/front/image_rect', '/camera/image_raw'], 2) == [
        '/front/image_rect', '/camera/image_raw']
