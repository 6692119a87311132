{{ config(severity = 'warn') }}

select
    'blocked_recommendations' as seed,
    product_id,
    recommended_product_id,
    ends_on
from {{ ref('blocked_recommendations') }}
where ends_on < {{ as_of_day() }}

union all

select
    'pinned_recommendations' as seed,
    product_id,
    recommended_product_id,
    ends_on
from {{ ref('pinned_recommendations') }}
where ends_on < {{ as_of_day() }}
