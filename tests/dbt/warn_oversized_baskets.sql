{{ config(severity = 'warn') }}

select
    source_file,
    byte_offset,
    product_count
from {{ ref('oversized_baskets') }}
