//! faultdisk
