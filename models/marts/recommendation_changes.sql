with

recommendations as (

    select
        product_id,
        list(recommended_product_id order by recommendation_rank) as recommended_product_ids
    from {{ ref('product_recommendations') }}
    group by product_id

),

published_recommendations as (

    select
        product_id,
        list(recommended_product_id order by recommendation_rank) as recommended_product_ids
    from {{ ref('stg_published_recommendations') }}
    group by product_id

),

compared as (

    select
        coalesce(current_list.product_id, published_list.product_id) as product_id,
        case
            when published_list.product_id is null then 'new'
            when current_list.product_id is null then 'gone'
            when current_list.recommended_product_ids = published_list.recommended_product_ids
                then 'unchanged'
            when
                list_sort(current_list.recommended_product_ids)
                = list_sort(published_list.recommended_product_ids)
                then 'reordered'
            else 'changed'
        end as list_change,
        current_list.recommended_product_ids,
        published_list.recommended_product_ids as published_recommended_product_ids
    from recommendations as current_list
    full outer join published_recommendations as published_list
        on current_list.product_id = published_list.product_id

)

select * from compared
