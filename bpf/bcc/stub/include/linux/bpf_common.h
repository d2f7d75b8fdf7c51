/* empty: see linux/kconfig.h */
