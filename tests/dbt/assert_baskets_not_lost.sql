select
    basket_count,
    published_basket_count
from {{ ref('int_data_measured') }}
where basket_count < {{ var('min_baskets_share') }} * published_basket_count
