"""The eight datasets of MIDAS Open as tables: which columns a file has and what stands in them. Pure data."""

from __future__ import annotations

from typing import NamedTuple


class Quantity(NamedTuple):
    """One measured quantity: its column, and the range and decimals of made-up values."""

    name: str
    long_name: str
    unit: str
    low: float
    high: float
    decimals: int = 1
    missing_share: float = 0.02


class Dataset(NamedTuple):
    """One dataset.

    Attributes
    ----------
    lead : tuple of str
        The columns between the time and the quantities.
    constants : dict
        What stands in those columns that do not depend on the station.
    hourly : bool
        A row an hour rather than a row a day.
    weight : float
        Size of a file relative to the mean over all datasets.
    flags : bool
        Each quantity has a ``_q`` and a ``_j`` column, rather than ``_q`` alone.
    """

    name: str
    time_column: str
    lead: tuple[str, ...]
    constants: dict[str, str]
    quantities: tuple[Quantity, ...]
    hourly: bool
    weight: float
    flags: bool = True


_IDENTITY = ("id_type", "id", "ob_hour_count", "version_num", "met_domain_name", "src_id", "rec_st_ind")
_RAIN_IDENTITY = ("id", "id_type", "ob_hour_count", "version_num", "met_domain_name", "src_id", "rec_st_ind")
_DAILY_RAIN_IDENTITY = (
    "id",
    "id_type",
    "version_num",
    "met_domain_name",
    "ob_end_ctime",
    "ob_day_cnt",
    "src_id",
    "rec_st_ind",
)
_CLIMATE = {"id_type": "DCNN", "met_domain_name": "NCM", "ob_hour_count": "24", "rec_st_ind": "1001"}

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "uk-daily-rain-obs",
        "ob_date",
        _DAILY_RAIN_IDENTITY,
        {
            "id_type": "RAIN",
            "met_domain_name": "DLY3208",
            "ob_end_ctime": "900",
            "ob_day_cnt": "1",
            "rec_st_ind": "1011",
        },
        (Quantity("prcp_amt", "Precipitation amount", "mm", 0, 24),),
        hourly=False,
        weight=0.8,
    ),
    Dataset(
        "uk-daily-temperature-obs",
        "ob_end_time",
        _IDENTITY,
        _CLIMATE,
        (
            Quantity("max_air_temp", "Maximum air temperature", "degC", 4, 26),
            Quantity("min_air_temp", "Minimum air temperature", "degC", -4, 14),
            Quantity("min_grss_temp", "Minimum grass temperature", "degC", -8, 12, missing_share=0.2),
            Quantity("min_conc_temp", "Minimum concrete temperature", "degC", -6, 13, missing_share=0.3),
        ),
        hourly=False,
        weight=0.7,
    ),
    Dataset(
        "uk-daily-weather-obs",
        "ob_end_time",
        _RAIN_IDENTITY,
        _CLIMATE,
        (
            Quantity("cs_24hr_sun_dur", "Campbell-Stokes 24 hour sun duration", "hour", 0, 14),
            Quantity("conc_state_id", "Concrete state code", "1", 0, 9, 0),
            Quantity("snow_depth", "Snow depth", "cm", 0, 3, 0, 0.4),
            Quantity("snow_day_id", "Snow day identifier", "1", 0, 1, 0),
            Quantity("hail_day_id", "Hail day identifier", "1", 0, 1, 0),
            Quantity("thunder_day_flag", "Thunder day flag", "1", 0, 1, 0),
            Quantity("gale_day_flag", "Gale day flag", "1", 0, 1, 0, 0.3),
        ),
        hourly=False,
        weight=1.0,
        flags=False,
    ),
    Dataset(
        "uk-hourly-rain-obs",
        "ob_end_time",
        _RAIN_IDENTITY,
        {"id_type": "RAIN", "met_domain_name": "SREW", "ob_hour_count": "1", "rec_st_ind": "1001"},
        (
            Quantity("prcp_amt", "Precipitation amount", "mm", 0, 6),
            Quantity("prcp_dur", "Precipitation duration", "minute", 0, 60, 0, 0.6),
        ),
        hourly=True,
        weight=1.1,
    ),
    Dataset(
        "uk-hourly-weather-obs",
        "ob_time",
        ("id", "id_type", "met_domain_name", "version_num", "src_id", "rec_st_ind"),
        {"id_type": "WMO", "met_domain_name": "SYNOP", "rec_st_ind": "1001"},
        (
            Quantity("wind_direction", "Wind direction", "deg true", 0, 360, 0),
            Quantity("wind_speed", "Wind speed", "knots", 0, 30, 0),
            Quantity("prst_wx_id", "Present weather code", "1", 0, 99, 0, 0.3),
            Quantity("cld_ttl_amt_id", "Total cloud amount code", "1", 0, 9, 0),
            Quantity("cld_base_ht", "Height of cloud base", "dam", 1, 900, 0, 0.2),
            Quantity("visibility", "Visibility", "dam", 1, 6000, 0),
            Quantity("msl_pressure", "Mean sea level pressure", "hPa", 960, 1040),
            Quantity("air_temperature", "Air temperature", "degC", -5, 26),
            Quantity("dewpoint", "Dew point temperature", "degC", -8, 18),
            Quantity("wetb_temp", "Wet bulb temperature", "degC", -6, 20),
            Quantity("stn_pres", "Station pressure", "hPa", 940, 1035, missing_share=0.1),
            Quantity("rltv_hum", "Relative humidity", "%", 30, 100),
        ),
        hourly=True,
        weight=1.6,
    ),
    Dataset(
        "uk-mean-wind-obs",
        "ob_end_time",
        ("id_type", "id", "ob_hour_count", "met_domain_name", "version_num", "src_id", "rec_st_ind"),
        {"id_type": "WIND", "met_domain_name": "HCM", "ob_hour_count": "1", "rec_st_ind": "1001"},
        (
            Quantity("mean_wind_dir", "Mean wind direction", "deg true", 0, 360),
            Quantity("mean_wind_speed", "Mean wind speed", "knots", 0, 35),
            Quantity("max_gust_dir", "Direction of maximum wind gust", "deg true", 0, 360),
            Quantity("max_gust_speed", "Speed of maximum wind gust", "knots", 2, 60),
            Quantity("max_gust_ctime", "Clock time of maximum gust HHMM", "s", 0, 2359, 0, 0.3),
        ),
        hourly=True,
        weight=1.1,
    ),
    Dataset(
        "uk-radiation-obs",
        "ob_end_time",
        _IDENTITY,
        {"id_type": "DCNN", "met_domain_name": "MODLERAD", "ob_hour_count": "1", "rec_st_ind": "2001"},
        (
            Quantity("glbl_irad_amt", "Global solar irradiation amount", "kJ/m^2", 0, 3200, 0),
            Quantity("difu_irad_amt", "Diffuse solar irradiation amount", "kJ/m^2", 0, 1500, 0, 0.3),
            Quantity("direct_irad", "Direct irradiation amount", "kJ/m^2", 0, 2500, 0, 0.6),
            Quantity("irad_bal_amt", "Radiation balance amount", "kJ/m^2", -300, 2000, 0, 0.7),
        ),
        hourly=True,
        weight=1.0,
        flags=False,
    ),
    Dataset(
        "uk-soil-temperature-obs",
        "ob_time",
        ("id_type", "id", "met_domain_name", "version_num", "src_id", "rec_st_ind"),
        {"id_type": "DCNN", "met_domain_name": "NCM", "rec_st_ind": "1001"},
        tuple(
            Quantity(f"q{depth}cm_soil_temp", f"{depth}cm soil temperature", "degC", 2, 18)
            for depth in (5, 10, 20, 30, 50, 100)
        ),
        hourly=False,
        weight=0.7,
    ),
)
